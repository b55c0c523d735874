// The curves of a training run, and the slider over its pictures.

const { charts, events } = JSON.parse(document.getElementById("scene").textContent);
const SVG = "http://www.w3.org/2000/svg";
const EDGE = { left: 52, right: 10, top: 8, bottom: 22 };
const LOG_SPAN = 8; // values that span more than this factor have a logarithmic axis
const COLOURS = 7;

function make(kind, attributes = {}, text = "") {
  const element = document.createElementNS(SVG, kind);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.textContent = text;
  return element;
}

function html(kind, className = "", text = "") {
  const element = document.createElement(kind);
  element.className = className;
  element.textContent = text;
  return element;
}

/** A number for a person to read: as many digits as tell it apart, no more. */
function spoken(value) {
  const size = Math.abs(value);
  if (size === 0) return "0";
  if (size >= 1e6) return `${+(value / 1e6).toPrecision(3)}M`;
  if (size >= 1e4) return `${+(value / 1e3).toPrecision(3)}k`;
  if (size < 1e-3) return value.toExponential(1);
  return String(+value.toPrecision(3));
}

const spokenStep = (step) => (step >= 1e5 ? spoken(step) : step.toLocaleString("en"));

/** Round values between two limits, about `count` of them. */
function ticks(low, high, count) {
  const rough = (high - low) / count;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((size) => size >= rough);
  const first = Math.ceil(low / step);
  return Array.from({ length: Math.floor(high / step + 1e-9) - first + 1 }, (_, i) => (first + i) * step);
}

/** 1, 2 and 5 times powers of ten; only the powers where there are many. */
function logTicks(low, high) {
  const found = [];
  const factors = high / low > 300 ? [1] : [1, 2, 5];
  for (let power = Math.floor(Math.log10(low)); power <= Math.log10(high); power += 1) {
    found.push(...factors.map((factor) => factor * 10 ** power).filter((v) => v >= low && v <= high));
  }
  return found;
}

function range(chart) {
  const values = chart.lines.flatMap((line) => line.points.map((point) => point[1]));
  let [low, high] = [Math.min(...values), Math.max(...values)];
  const isLog = !chart.isFromZero && low > 0 && high > LOG_SPAN * low;
  if (isLog) return { low: low / 1.1, high: high * 1.1, isLog };
  if (chart.isFromZero || low > 0) low = Math.min(low, chart.isFromZero || low < 0.5 * high ? 0 : low);
  const margin = 0.06 * (high - low || Math.abs(high) || 1);
  return { low: low === 0 ? 0 : low - margin, high: high + margin, isLog };
}

function nearest(points, step) {
  return points.reduce((best, point) => (Math.abs(point[0] - step) < Math.abs(best[0] - step) ? point : best));
}

/** A chart in its card; `draw` lays it out anew for a width. */
function chartCard(chart) {
  const card = html("section", "card");
  const title = html("h2", "", chart.title);
  const unit = html("span", "", chart.unit);
  title.append(unit);
  const svg = make("svg", { role: "img", "aria-label": chart.title });
  const legend = html("ul", "legend");
  const readouts = chart.lines.map((line) => {
    const item = html("li");
    const mark = html("i", line.isValidation ? "faint" : "");
    mark.style.color = `var(--series-${line.colour % COLOURS})`;
    const value = html("b");
    item.append(mark, line.name.replaceAll("_", " "), value);
    legend.append(item);
    return value;
  });
  card.append(title, svg, legend);

  const steps = chart.lines.flatMap((line) => line.points.map((point) => point[0]));
  const [firstStep, lastStep] = [Math.min(...steps), Math.max(...steps)];
  const { low, high, isLog } = range(chart);
  const scale = isLog ? Math.log : (value) => value;
  const size = { width: 0, height: 220 };
  const x = (step) =>
    EDGE.left + ((step - firstStep) / (lastStep - firstStep || 1)) * (size.width - EDGE.left - EDGE.right);
  const y = (value) =>
    EDGE.top + (1 - (scale(value) - scale(low)) / (scale(high) - scale(low))) * (size.height - EDGE.top - EDGE.bottom);
  const pointer = make("line", { class: "pointer", y1: EDGE.top, y2: size.height - EDGE.bottom, visibility: "hidden" });

  function path(points) {
    const places = points.map(([step, value]) => [x(step).toFixed(1), y(value).toFixed(1)]);
    const [start, ...rest] = places;
    return `M${start}${rest.map(([px, py]) => (chart.isStepped ? `H${px}V${py}` : `L${px},${py}`)).join("")}`;
  }

  function draw() {
    size.width = svg.clientWidth;
    svg.setAttribute("viewBox", `0 0 ${size.width} ${size.height}`);
    svg.replaceChildren();
    for (const value of isLog ? logTicks(low, high) : ticks(low, high, 5)) {
      svg.append(make("line", { class: "grid-line", x1: EDGE.left, x2: size.width - EDGE.right, y1: y(value), y2: y(value) }));
      svg.append(make("text", { x: EDGE.left - 6, y: y(value) + 4, "text-anchor": "end" }, spoken(value)));
    }
    for (const step of lastStep > firstStep ? ticks(firstStep, lastStep, size.width / 90) : [firstStep]) {
      svg.append(make("text", { x: x(step), y: size.height - 6, "text-anchor": "middle" }, spokenStep(step)));
    }
    for (const [step, words] of events) {
      const line = make("line", { class: "event-line", x1: x(step), x2: x(step), y1: EDGE.top, y2: size.height - EDGE.bottom });
      line.append(make("title", {}, `step ${step}: ${words}`));
      svg.append(line);
    }
    for (const line of chart.lines) {
      const colour = `var(--series-${line.colour % COLOURS})`;
      svg.append(make("path", { class: line.isValidation ? "curve faint" : "curve", d: path(line.points), style: `stroke:${colour}` }));
      if (line.isValidation || line.points.length <= 30) {
        const hole = line.isValidation ? "var(--card)" : colour;
        for (const [step, value] of line.points) {
          svg.append(make("circle", { cx: x(step), cy: y(value), r: 2.6, style: `stroke:${colour};fill:${hole}` }));
        }
      }
    }
    svg.append(pointer);
  }

  function point(event) {
    const left = event.clientX - svg.getBoundingClientRect().left;
    const share = (left - EDGE.left) / (size.width - EDGE.left - EDGE.right);
    const asked = firstStep + Math.min(1, Math.max(0, share)) * (lastStep - firstStep);
    const step = nearest(chart.lines[0].points, asked)[0];
    pointer.setAttribute("visibility", "visible");
    pointer.setAttribute("x1", x(step));
    pointer.setAttribute("x2", x(step));
    unit.textContent = `${chart.unit} at step ${step.toLocaleString("en")}`;
    chart.lines.forEach((line, i) => { readouts[i].textContent = spoken(nearest(line.points, step)[1]); });
  }

  function leave() {
    pointer.setAttribute("visibility", "hidden");
    unit.textContent = chart.unit;
    chart.lines.forEach((line, i) => { readouts[i].textContent = spoken(line.points.at(-1)[1]); });
  }

  svg.addEventListener("pointermove", point);
  svg.addEventListener("pointerdown", point);
  svg.addEventListener("pointerleave", leave);
  leave();
  return { card, draw, svg };
}

const place = document.getElementById("charts");
const drawn = charts.map(chartCard);
place.append(...drawn.map(({ card }) => card));
const drawAll = () => drawn.forEach(({ draw }) => draw());
new ResizeObserver(drawAll).observe(place);
drawAll();

for (const section of document.querySelectorAll(".pictures")) {
  const slider = section.querySelector("input");
  const images = [...section.querySelectorAll("img")];
  slider?.addEventListener("input", () => {
    images.forEach((image, i) => { image.hidden = i !== slider.valueAsNumber; });
    section.querySelector("output").textContent = images[slider.valueAsNumber].dataset.step;
  });
}
