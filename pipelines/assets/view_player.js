// The page's controls: what is shown, when, and from where.

const element = (id) => document.getElementById(id);
const scene = JSON.parse(element("scene").textContent);
const views = {
  start: { yaw: -0.45, pitch: 0.18, zoom: 1 },
  side: { yaw: -Math.PI / 2, pitch: 0.02, zoom: 1 },
  top: { yaw: 0, pitch: Math.PI / 2, zoom: 1 },
  camera: { yaw: 0, pitch: 0, zoom: 1 }, // its pitch is the track's tilt
};
const ICON = { play: "M4 2.5v11l9.5-5.5z", pause: "M3.5 2.5h3v11h-3zM9.5 2.5h3v11h-3z" };

let colours = palette();
let view = { ...views.start };
let track = null;
let index = 0;
let clock_s = 0;
let speed = 1;
let isPlaying = false;
let isWaiting = false;
let lastTick_ms = 0;

/** Ask for one picture; many requests before it make one picture still. */
function redraw() {
  if (isWaiting) return;
  isWaiting = true;
  requestAnimationFrame(tick);
}

function tick(now_ms) {
  isWaiting = false;
  if (isPlaying) {
    const last = track.time_s.length - 1;
    const end_s = track.time_s[last] + track.step_s;
    clock_s += (speed * Math.min(now_ms - lastTick_ms, 250)) / 1000;
    if (clock_s >= end_s) clock_s = track.time_s[0];
    while (index < last && track.time_s[index + 1] <= clock_s) index += 1;
    if (track.time_s[index] > clock_s) index = 0;
    lastTick_ms = now_ms;
  }
  draw();
  if (isPlaying) redraw();
}

function draw() {
  const isGap = clock_s - track.time_s[index] > 1.5 * track.step_s;
  const alpha = isGap ? 0.3 : 1;
  drawInput(element("canvas-2d"), scene.skeleton, track, index, colours, alpha);
  drawLifted(element("canvas-3d"), scene.skeleton, track, index, colours, alpha, view);
  const frame = `frame ${track.frames[index]} · ${track.time_s[index].toFixed(2)} s`;
  element("time").textContent = isGap ? `${frame} (gap)` : frame;
  element("scrub").value = index;
}

function seek(to) {
  index = Math.min(Math.max(to, 0), track.time_s.length - 1);
  clock_s = track.time_s[index];
  redraw();
}

function play(isOn) {
  isPlaying = isOn && track.time_s.length > 1;
  lastTick_ms = performance.now();
  const button = element("play");
  button.setAttribute("aria-label", isPlaying ? "Pause" : "Play");
  button.querySelector("path").setAttribute("d", isPlaying ? ICON.pause : ICON.play);
  redraw();
}

function show(packed) {
  const before_s = track ? track.time_s[index] : null;
  track = decodeTrack(packed);
  const frames = track.time_s.length;
  element("scrub").max = frames - 1;
  const [left, top, right, bottom] = track.image_box_px;
  element("pane-2d").style.setProperty("--aspect", (right - left) / (bottom - top));
  element("image-size").textContent = track.is_image_known ? `${right} × ${bottom} px` : "image size not known";
  element("grid-size").textContent = "grid 0.5 m";
  element("note").textContent = track.note;
  element("note").hidden = track.note === "";
  // Cameras of one take share a clock: stay at the same moment when the view of it changes.
  const same = before_s === null ? 0 : track.time_s.findLastIndex((time_s) => time_s <= before_s);
  seek(Math.max(same, 0));
}

function fill(select, names) {
  select.replaceChildren(...names.map((name, i) => new Option(name, i)));
}

function choose(source, person) {
  const people = scene.tracks.filter((packed) => packed.source === scene.sources[source]);
  fill(element("person"), people.map((packed) => packed.person));
  element("person").value = person;
  element("person-label").hidden = people.length < 2;
  show(people[person]);
}

function turnWithPointers(canvas) {
  const pointers = new Map();
  const spread = () => {
    const [a, b] = [...pointers.values()];
    return Math.hypot(a[0] - b[0], a[1] - b[1]);
  };
  const zoomBy = (factor) => {
    view.zoom = Math.min(Math.max(view.zoom * factor, 0.3), 8);
    redraw();
  };
  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    pointers.set(event.pointerId, [event.clientX, event.clientY]);
    canvas.classList.add("dragging");
  });
  canvas.addEventListener("pointermove", (event) => {
    const from = pointers.get(event.pointerId);
    if (!from) return;
    const before = pointers.size === 2 ? spread() : 0;
    pointers.set(event.pointerId, [event.clientX, event.clientY]);
    if (pointers.size === 2) {
      if (before > 0) zoomBy(spread() / before);
      return;
    }
    view.yaw += 0.008 * (event.clientX - from[0]);
    view.pitch = Math.min(Math.max(view.pitch + 0.008 * (event.clientY - from[1]), -0.8), Math.PI / 2);
    redraw();
  });
  for (const name of ["pointerup", "pointercancel"]) {
    canvas.addEventListener(name, (event) => {
      pointers.delete(event.pointerId);
      if (pointers.size === 0) canvas.classList.remove("dragging");
    });
  }
  canvas.addEventListener("wheel", (event) => {
    event.preventDefault();
    zoomBy(Math.exp(-0.0015 * event.deltaY));
  }, { passive: false });
  canvas.addEventListener("dblclick", () => turnTo("start"));
}

function turnTo(name) {
  view = { ...views[name] };
  if (name === "camera") view.pitch = track.tilt_rad;
  redraw();
}

function onKey(event) {
  const owner = event.target.tagName;
  if (event.ctrlKey || event.metaKey || event.altKey || owner === "SELECT") return;
  const step = event.shiftKey ? 10 : 1;
  const seeks = { ArrowLeft: index - step, ArrowRight: index + step, Home: 0, End: Infinity };
  if (event.key === " " && owner !== "BUTTON") play(!isPlaying);
  else if (event.key in seeks && owner !== "INPUT") {
    play(false);
    seek(seeks[event.key]);
  } else return;
  event.preventDefault();
}

function start() {
  fill(element("source"), scene.sources);
  element("source-label").hidden = scene.sources.length < 2;
  element("source").addEventListener("change", (event) => choose(Number(event.target.value), 0));
  element("person").addEventListener("change", (event) => choose(Number(element("source").value), Number(event.target.value)));
  element("speed").addEventListener("change", (event) => { speed = Number(event.target.value); });
  element("play").addEventListener("click", () => play(!isPlaying));
  element("scrub").addEventListener("input", (event) => {
    play(false);
    seek(Number(event.target.value));
  });
  document.querySelectorAll("[data-view]").forEach((button) => {
    button.addEventListener("click", () => turnTo(button.dataset.view));
  });
  // A button that was clicked gives the space key back to play and pause.
  document.addEventListener("click", (event) => event.detail > 0 && event.target.closest("button")?.blur());
  document.addEventListener("keydown", onKey);
  turnWithPointers(element("canvas-3d"));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { colours = palette(); redraw(); });
  new ResizeObserver(redraw).observe(document.querySelector("main"));
  choose(0, 0);
  play(!matchMedia("(prefers-reduced-motion: reduce)").matches);
}

start();
