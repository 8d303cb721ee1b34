// The page of the game. The server holds the game and sends what its player may know; this draws it and asks for moves.
"use strict";

const $ = (id) => document.getElementById(id);
const WHEEL = 60; // of a wheel's movement for one zoom
const PINCH = 1.35; // of the fingers' distance for one zoom
const POINTER_OF_KEYS = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };

let state = null; // what the server said last
let level = 0; // number of the zoom
let aim = null; // [row, column] of the grid of that zoom
let aimShown = false; // whether the player points somewhere
let busy = false;

// -- the server --------------------------------------------------------------------------------------------------------

async function ask(path, values) {
  if (busy) return false;
  setBusy(true);
  try {
    const request = values === undefined ? {} :
      { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(values) };
    let answer = await fetch(path, request);
    const refused = answer.ok ? null : (await answer.json()).error;
    if (answer.status === 409) answer = await fetch("api/game"); // the game has gone on, in another tab perhaps
    if (answer.ok) state = await answer.json();
    say(refused);
    return refused === null;
  } catch {
    say("The server does not answer. Is it still running?");
    return false;
  } finally {
    setBusy(false);
    draw();
  }
}

function move(name, values) {
  const game = state.game;
  return ask(`api/${name}`, { image: game.image, step: game.glimpses.length, ...values });
}

function setBusy(on) {
  busy = on;
  $("board").setAttribute("aria-busy", String(on));
}

function say(sentence) {
  $("message").textContent = sentence ?? "";
  $("message").hidden = !sentence;
}

// -- moves ------------------------------------------------------------------------------------------------------------

const playing = () => state?.game && !state.game.over;

async function look() {
  if (!playing() || busy) return;
  const at = placeOf(aim);
  if (state.game.taken.includes(at)) return say("You have looked there already.");
  await move("look", { location: at });
  if (state.game?.over) $("next").focus({ preventScroll: true });
}

async function stop() {
  if (!playing() || !state.game.stops) return;
  await move("stop", {});
  if (state.game?.over) $("next").focus({ preventScroll: true });
}

async function toggleMap() {
  if (playing()) await move("map", { shown: state.game.map === null });
}

async function next() {
  if (!state?.game?.over || state.game.finished) return;
  if (!await move("next", {})) return;
  level = 0;
  aim = null;
  aimShown = false;
  draw();
  if (state.game.finished) $("again").focus();
  else $("board").focus({ preventScroll: true });
}

async function begin(player) {
  level = 0;
  aim = null;
  if (await ask("api/begin", { player })) $("board").focus({ preventScroll: true });
}

function zoom(steps) {
  if (!playing()) return;
  const [row, col] = centre();
  level = Math.min(Math.max(level + steps, 0), state.game.levels.length - 1);
  aim = nearest(row, col);
  draw();
}

// -- places -----------------------------------------------------------------------------------------------------------

function nearest(row, col) {
  const { window: side, corners } = state.game.levels[level];
  const closest = (value) => corners.reduce((best, corner, k) =>
    Math.abs(corner - value) < Math.abs(corners[best] - value) ? k : best, 0);
  return [closest(row - side / 2), closest(col - side / 2)];
}

function placeOf([row, col]) {
  const { first, corners } = state.game.levels[level];
  return first + row * corners.length + col;
}

function box([row, col]) {
  const { window: side, corners } = state.game.levels[level];
  return [corners[row], corners[col], side];
}

function centre() {
  const [row, col, side] = box(aim);
  return [row + side / 2, col + side / 2];
}

function pointed(event) {
  const { left, top, width, height } = $("board").getBoundingClientRect();
  const size = state.game.size;
  return nearest((event.clientY - top) / height * size, (event.clientX - left) / width * size);
}

function boxOf(place) { // of a location of any zoom, with the zoom's number
  const number = state.game.levels.findLastIndex(({ first }) => place >= first);
  const { first, window: side, corners } = state.game.levels[number];
  const row = Math.floor((place - first) / corners.length);
  return [number, [corners[row], corners[place - first - row * corners.length], side]];
}

// -- drawing ----------------------------------------------------------------------------------------------------------

function draw() {
  if (!state) return;
  const game = state.game;
  $("title").textContent = state.title;
  document.title = `${state.title}: you against the oracle`;
  $("start").hidden = Boolean(game);
  $("play").hidden = !game || game.finished;
  $("end").hidden = !game?.finished;
  $("score").textContent = game ? scoreText(game.score) : "";
  if (!game) {
    if (!$("player").value) $("player").value = state.player;
    return;
  }
  if (game.finished) return drawEnd(game);
  aim ??= nearest(game.size / 2, game.size / 2);
  $("where").textContent = `Image ${game.image} of ${game.images}${game.assisted ? ", assisted" : ""}`;
  $("count").textContent = `${game.glimpses.length} of ${game.steps} glimpses`;
  $("board").classList.toggle("over", game.over);
  $("board").classList.toggle("zooming", game.levels.length > 1);
  $("verdict").hidden = !game.over;
  $("actions").hidden = game.over;
  drawBoard(game);
  if (game.over) drawVerdict(game);
  else drawActions(game);
}

function scoreText(score) {
  if (!score.images) return "";
  const { person, oracle } = score;
  const details = person.return === null ? `log-loss ${person.log_loss.toFixed(2)} : ${oracle.log_loss.toFixed(2)}` :
    `less the glimpses' price ${person.return.toFixed(2)} : ${oracle.return.toFixed(2)}`;
  return `You ${person.successes} : ${oracle.successes} oracle of ${score.images} (${details})`;
}

function drawBoard(game) {
  const seen = $("seen"), heat = $("heat"), marks = $("marks"), verdict = game.verdict;
  setSource(seen, game.over ? verdict.picture : game.seen);
  seen.alt = game.over ? `The image: ${verdict.class}` :
    `The hidden image, ${game.glimpses.length} of ${game.steps} glimpses seen`;
  heat.hidden = !game.map;
  if (game.map) setSource(heat, game.map.pictures[level]);
  marks.setAttribute("viewBox", `0 0 ${game.size} ${game.size}`);
  marks.replaceChildren();
  if (verdict) verdict.oracle.glimpses.forEach((glimpse, k) => mark(glimpse, "oracle", k + 1));
  game.glimpses.forEach((glimpse, k) => mark(glimpse, "person", k + 1));
  if (game.map && game.map.choice !== null) {
    const [number, place] = boxOf(game.map.choice);
    if (number === level) mark(place, "oracle");
  }
  $("board").setAttribute("aria-label", game.over ? seen.alt : `${seen.alt}. Arrow keys aim, space looks.`);
  drawAim(game);
}

function drawAim(game) {
  $("marks").querySelectorAll(".aim, .aim-halo").forEach((shape) => shape.remove());
  $("aimed").textContent = "";
  if (game.over) return;
  const at = placeOf(aim), taken = game.taken.includes(at), side = game.levels[level].corners.length;
  if (!aimShown) return;
  mark(box(aim), taken ? "aim seen-before" : "aim");
  const value = game.map?.values[at];
  $("aimed").textContent = `Row ${aim[0] + 1}, column ${aim[1] + 1} of ${side}${taken ? ", looked at already" : ""}` +
    (value == null ? "" : `; the map says ${value.toFixed(2)}`);
}

function mark([row, col, side], kind, number) {
  const marks = $("marks"), unit = state.game.size / 30, atEnd = kind === "oracle";
  const inset = kind === "oracle" ? unit / 5 : 0; // visible also inside a glimpse of the player's at the same place
  const frame = { x: col + inset, y: row + inset, width: side - 2 * inset, height: side - 2 * inset };
  marks.append(shape("rect", { class: kind.startsWith("aim") ? "halo aim-halo" : "halo", ...frame }), shape("rect", { class: kind, ...frame }));
  if (number === undefined) return;
  const x = atEnd ? col + side - unit - inset : col, y = atEnd ? row + side - unit - inset : row;
  marks.append(shape("rect", { class: `tag ${kind}`, x, y, width: unit, height: unit }));
  const text = shape("text", { x: x + unit / 2, y: y + unit / 2, "font-size": unit * 0.9 });
  text.textContent = String(number);
  marks.append(text);
}

function shape(kind, attributes) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", kind);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  return made;
}

function setSource(image, address) {
  if (image.getAttribute("src") !== address) image.src = address;
}

function drawActions(game) {
  const zooms = game.levels.map(({ window: side }) => side / game.levels[0].window);
  $("stop").hidden = !game.stops;
  $("zooms").hidden = zooms.length < 2;
  $("zoom").textContent = level ? `${zooms[level]} times as wide` : "as close as it goes";
  $("closer").disabled = level === 0;
  $("wider").disabled = level === zooms.length - 1;
  $("map").setAttribute("aria-pressed", String(game.map !== null));
  $("legend").hidden = !game.map;
  if (game.map) {
    const { title, low, high, choice, values } = game.map;
    $("map-title").textContent = `The oracle's map: ${title}`;
    $("low").textContent = low.toFixed(2);
    $("high").textContent = high.toFixed(2);
    const wide = choice === null ? 0 : boxOf(choice)[0];
    $("choice").textContent = choice === null ? "The oracle would stop now." :
      `The oracle would look ${wide === level ? "where the dashed frame is" : `${zooms[wide]} times as wide`}: ${values[choice].toFixed(2)}.`;
  }
  const keys = [["Click or tap", "take the glimpse there"], ["Arrow keys, space", "aim, and take the glimpse"]];
  if (zooms.length > 1) keys.push(["Wheel, pinch, + −", "look closer or wider"]);
  if (game.stops) keys.push(["Enter", `stop and be judged; each glimpse costs ${game.cost} of a success`]);
  keys.push(["M", "the oracle's map after your glimpses; the image then counts as assisted"]);
  keys.push(["Space", "next image, after the last glimpse"]);
  $("help").replaceChildren(...keys.flatMap(([key, what]) => [element("dt", key), element("dd", what)]));
}

function drawVerdict(game) {
  const { verdict } = game;
  $("class").textContent = verdict.class;
  $("answers").replaceChildren(answer("You", "person", verdict.person), answer("The oracle", "oracle", verdict.oracle));
  $("next").textContent = game.image === game.images ? "See the score" : "Next image";
}

const outcome = (right) => right ? "✓ right" : "✗ wrong"; // in words too: a sign alone is not read aloud

function answer(who, kind, given) {
  const block = element("div", undefined, "answer"), head = element("div", undefined, "row");
  const count = given.glimpses.length;
  head.append(element("span", undefined, `swatch ${kind}`), element("strong", who),
    element("span", outcome(given.success), "result"));
  block.append(head, element("p", `${count} glimpse${count === 1 ? "" : "s"}, log-loss ${given.log_loss.toFixed(2)} nats`, "faint"));
  for (const { name, probability, true: right } of given.classes) {
    const bar = element("div", undefined, "bar"), share = document.createElement("progress");
    share.value = probability;
    share.setAttribute("aria-label", `The judge's probability of ${name}`);
    bar.append(element("span", right ? `${name} (true)` : name, right ? "true" : ""),
      element("span", `${(100 * probability).toFixed(1)} %`), share);
    block.append(bar);
  }
  return block;
}

function drawEnd(game) {
  const { score, rounds } = game, priced = score.person.return !== null;
  $("end-title").textContent = `${score.images} image${score.images === 1 ? "" : "s"} played`;
  const head = ["", "right", "mean log-loss, nats", ...(priced ? ["right, less the glimpses' price"] : [])];
  const row = (who, { successes, log_loss: loss, return: returned }) =>
    [who, `${successes} of ${score.images}`, loss.toFixed(2), ...(priced ? [returned.toFixed(2)] : [])];
  const rows = [head, row("You", score.person), row("The oracle", score.oracle)];
  $("totals").replaceChildren(...rows.map((cells, k) => {
    const line = document.createElement("tr");
    line.append(...cells.map((cell, column) => {
      const made = element(cell && (k === 0 || column === 0) ? "th" : "td", cell);
      if (k === 0 && cell) made.scope = "col";
      else if (column === 0 && cell) made.scope = "row";
      return made;
    }));
    return line;
  }));
  $("assisted").textContent = score.assisted ? `The oracle's map was shown on ${score.assisted} of them.` :
    "You played without the oracle's map.";
  $("rounds").replaceChildren(...rounds.map((round) => {
    const item = element("li"), picture = document.createElement("img");
    picture.src = round.picture;
    picture.alt = `A ${round.class}`;
    item.append(picture, element("p", round.class),
      element("p", `you ${outcome(round.person)}${round.assisted ? " (assisted)" : ""}, oracle ${outcome(round.oracle)}`, "faint"));
    return item;
  }));
}

function element(kind, text, className) {
  const made = document.createElement(kind);
  if (text !== undefined) made.textContent = text;
  if (className) made.className = className;
  return made;
}

// -- the player -------------------------------------------------------------------------------------------------------

const fingers = new Map(); // places of fingers on the board
let pinched = 0; // distance of two fingers at the last zoom; 0 where there were none since all were lifted

function spread() {
  const [one, other] = [...fingers.values()];
  return Math.hypot(one[0] - other[0], one[1] - other[1]);
}

function listen() {
  const board = $("board");
  let turned = 0;
  board.addEventListener("click", (event) => {
    if (!playing() || busy || pinched) return;
    aim = pointed(event);
    aimShown = event.pointerType !== "touch";
    look();
  });
  board.addEventListener("pointermove", (event) => {
    if (fingers.has(event.pointerId)) fingers.set(event.pointerId, [event.clientX, event.clientY]);
    if (fingers.size === 2 && playing()) {
      const ratio = spread() / pinched;
      if (ratio > PINCH || ratio < 1 / PINCH) {
        pinched = spread();
        zoom(ratio > 1 ? -1 : 1);
      }
    } else if (event.pointerType === "mouse" && playing()) {
      aim = pointed(event);
      aimShown = true;
      drawAim(state.game);
    }
  });
  board.addEventListener("pointerdown", (event) => {
    if (event.pointerType !== "touch") return;
    if (fingers.size === 0) pinched = 0;
    fingers.set(event.pointerId, [event.clientX, event.clientY]);
    if (fingers.size === 2 && state.game.levels.length > 1) pinched = Math.max(spread(), 1);
  });
  for (const name of ["pointerup", "pointercancel"]) {
    window.addEventListener(name, (event) => fingers.delete(event.pointerId));
  }
  board.addEventListener("pointerleave", (event) => {
    if (event.pointerType !== "mouse" || !playing()) return;
    aimShown = false;
    drawAim(state.game);
  });
  board.addEventListener("wheel", (event) => {
    if (!playing() || state.game.levels.length < 2) return;
    event.preventDefault();
    turned += event.deltaMode === 0 ? event.deltaY : WHEEL * event.deltaY;
    if (Math.abs(turned) < WHEEL) return;
    zoom(Math.sign(turned));
    turned = 0;
  }, { passive: false });
  document.addEventListener("keydown", (event) => {
    if (!state?.game || event.ctrlKey || event.altKey || event.metaKey) return;
    const native = event.target.closest("button, input, summary") && [" ", "Enter"].includes(event.key);
    if (native || event.target.closest("input") || busy) return;
    if (key(event)) event.preventDefault();
  });
  $("begin").addEventListener("submit", (event) => {
    event.preventDefault();
    begin($("player").value);
  });
  for (const [id, act] of Object.entries({ look, stop, map: toggleMap, next })) $(id).addEventListener("click", act);
  $("closer").addEventListener("click", () => zoom(-1));
  $("wider").addEventListener("click", () => zoom(1));
  $("again").addEventListener("click", () => begin(state.player));
}

function key(event) { // returns whether it means something
  if (event.repeat && !(event.key in POINTER_OF_KEYS)) return false;
  if (!playing()) {
    if (event.key !== " " && event.key !== "Enter") return false;
    if (state.game.over && !state.game.finished) next();
    return true;
  }
  if (event.key in POINTER_OF_KEYS) {
    const last = state.game.levels[level].corners.length - 1;
    aim = aim.map((value, axis) => Math.min(Math.max(value + POINTER_OF_KEYS[event.key][axis], 0), last));
    aimShown = true;
    drawAim(state.game);
  } else if (event.key === " ") look();
  else if (event.key === "Enter" && state.game.stops) stop();
  else if (event.key === "+" || event.key === "=") zoom(-1);
  else if (event.key === "-") zoom(1);
  else if (event.key.toLowerCase() === "m") toggleMap();
  else return false;
  return true;
}

listen();
ask("api/game");
