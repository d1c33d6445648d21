// Line and bar charts in SVG, drawn anew from the data each time.

const HEIGHT = 150;
const LEFT = 34;
const BOTTOM = 6;

export class Chart {
  constructor(figure, { kind = "line", points = 60, label }) {
    this.kind = kind;
    this.points = points;
    this.label = label;
    this.series = [];
    this.svg = shape("svg", { role: "img" });
    figure.append(this.svg);
    // One unit is one pixel, so that text and lines keep their shape at any width.
    new ResizeObserver(() => this.draw()).observe(figure);
  }

  // One value for each line; null where there is none yet.
  push(values) {
    values.forEach((value, index) => {
      const line = this.series[index] ??= [];
      line.push(value);
      if (line.length > this.points) line.shift();
    });
    this.draw();
  }

  set(values) {
    this.series = [values];
    this.draw();
  }

  draw() {
    this.width = this.svg.clientWidth || 600;
    this.svg.setAttribute("viewBox", `0 0 ${this.width} ${HEIGHT}`);
    const values = this.series.flat().filter((value) => value !== null);
    const top = roundUp(Math.max(1, ...values));
    this.svg.setAttribute("aria-label", `${this.label}: ${values.length ? `latest ${values.at(-1)}, highest ${Math.max(...values)}` : "no data yet"}`);
    this.svg.replaceChildren(...grid(top, this.width), ...this.series.map((line, index) =>
      (this.kind === "bar" ? this.bars(line, top) : this.path(line, top, index))));
  }

  path(line, top, index) {
    const offset = this.points - line.length;
    const points = line.map((value, at) => (value === null ? null : [this.x(offset + at), y(value, top)])).filter(Boolean);
    const d = points.map(([px, py], at) => `${at ? "L" : "M"}${px.toFixed(1)} ${py.toFixed(1)}`).join("");
    return shape("path", { class: `series series-${index}`, d });
  }

  x(index) { return LEFT + (index / (this.points - 1)) * (this.width - LEFT); }

  bars(line, top) {
    const step = (this.width - LEFT) / line.length;
    return shape("g", {}, ...line.map((value, at) => shape("rect", {
      class: "bar", x: LEFT + at * step + 1, width: Math.max(1, step - 2), y: y(value, top), height: HEIGHT - BOTTOM - y(value, top), rx: 2,
    })));
  }
}

function grid(top, width) {
  return [0, top / 2, top].flatMap((value) => [
    shape("line", { class: "grid", x1: LEFT, x2: width, y1: y(value, top), y2: y(value, top) }),
    shape("text", { x: 0, y: y(value, top) + 4 }, String(value)),
  ]);
}

function y(value, top) { return HEIGHT - BOTTOM - (value / top) * (HEIGHT - BOTTOM - 12); }

// The next of 2, 4, 10, 20, 40, 100 ...: half of it is a round number too.
function roundUp(value) {
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 4, 10].map((factor) => factor * power).find((limit) => limit >= value && limit >= 2);
}

function shape(name, attributes, ...children) {
  const node = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  node.append(...children);
  return node;
}
