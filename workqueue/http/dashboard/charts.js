// Line charts as SVG: axes, a legend with the last value, a table of figures for those who do not see the lines.
import { el, number, svg, table } from "/dashboard/dom.js";

const WIDTH = 560, HEIGHT = 220, LEFT = 58, RIGHT = 14, TOP = 14, BOTTOM = 32, COLOURS = 8;

function ticks(low, high, count) {
  const raw = (high - low) / count || 1;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map((n) => n * power).find((n) => n >= raw);
  const found = [];
  for (let at = Math.ceil(low / step) * step; at <= high + step * 1e-9; at += step) found.push(Number(at.toPrecision(12)));
  return found;
}

function bounds(values, fromZero) {
  let low = Math.min(...values), high = Math.max(...values);
  if (fromZero) low = Math.min(0, low);
  if (low === high) { high = low + 1; low = fromZero ? low : low - 1; }
  return [low, high];
}

const round = (value) => Math.round(value * 10) / 10;

// series: [{ name, points: [[x, y, mark?]] }]; a point with `mark` { text, strong } gets a dot with that title.
export function chart(title, series, { xText = String, yText = number, fromZero = true, step = false, unit = "" } = {}) {
  const drawn = series.filter((one) => one.points.length);
  const figure = el("figure", {}, el("figcaption", {}, unit ? `${title} (${unit})` : title));
  const all = drawn.flatMap((one) => one.points);
  if (all.length < 2) {
    figure.append(el("p", { class: "none" }, "not enough data yet"));
    return figure;
  }
  const [x0, x1] = bounds(all.map((point) => point[0]), false);
  const [y0, y1] = bounds(all.map((point) => point[1]), fromZero);
  const x = (value) => round(LEFT + (value - x0) / (x1 - x0) * (WIDTH - LEFT - RIGHT));
  const y = (value) => round(HEIGHT - BOTTOM - (value - y0) / (y1 - y0) * (HEIGHT - TOP - BOTTOM));
  const spoken = drawn.map((one) => `${one.name}: ${yText(one.points.at(-1)[1])}`).join(", ");
  const picture = svg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": `${title}; last values: ${spoken}` });
  for (const at of ticks(y0, y1, 4)) {
    picture.append(svg("line", { class: "grid", x1: LEFT, x2: WIDTH - RIGHT, y1: y(at), y2: y(at) }),
      svg("text", { class: "tick", x: LEFT - 6, y: y(at) + 4, "text-anchor": "end" }, yText(at)));
  }
  for (const [k, at] of [x0, (x0 + x1) / 2, x1].entries()) {
    picture.append(svg("text", { class: "tick", x: x(at), y: HEIGHT - 8, "text-anchor": ["start", "middle", "end"][k] }, xText(at)));
  }
  drawn.forEach((one, k) => {
    let path = "";
    one.points.forEach(([px, py], n) => {
      path += n === 0 ? `M${x(px)} ${y(py)}` : step ? `H${x(px)}V${y(py)}` : `L${x(px)} ${y(py)}`;
    });
    picture.append(svg("path", { class: `line c${k % COLOURS}`, d: path }));
    for (const [px, py, mark] of one.points) {
      if (mark) picture.append(svg("circle", { class: `dot c${k % COLOURS}`, cx: x(px), cy: y(py), r: mark.strong ? 7 : 4 }, svg("title", {}, mark.text)));
    }
  });
  const legend = el("ul", { class: "legend" }, ...drawn.map((one, k) =>
    el("li", {}, el("span", { class: `key c${k % COLOURS}`, "aria-hidden": "true" }), `${one.name} ${yText(one.points.at(-1)[1])}`)));
  figure.append(picture, legend, figures(title, drawn, xText, yText));
  return figure;
}

function figures(title, drawn, xText, yText) {
  const made = el("details", {}, el("summary", {}, "Figures"));
  made.addEventListener("toggle", () => {
    if (!made.open || made.children.length > 1) return;
    const xs = [...new Set(drawn.flatMap((one) => one.points.map((point) => point[0])))].sort((a, b) => b - a).slice(0, 60);
    const rows = xs.map((at) => [xText(at), ...drawn.map((one) => {
      const point = one.points.find((each) => each[0] === at);
      return point ? yText(point[1]) : "";
    })]);
    made.append(table(title, ["", ...drawn.map((one) => `${one.name}#`)], rows));
  });
  return made;
}
