// Charts as drawings of the page: stacked bars whose parts differ by pattern, not by colour alone, with the same
// figures as a table.

import { fill, h, s } from "./dom.js";
import { scrolled, table } from "./pieces.js";

const HEIGHT = 190;
const EDGE = { top: 10, right: 18, bottom: 24, left: 40 };
const NARROWEST_LABEL = 46;

// What a series looks like besides its colour; a tone of the style sheet gives that.
const PATTERNS = {
  plain: () => [],
  diagonal: () => [s("path", { d: "M-2,2 l4,-4 M0,8 l8,-8 M6,10 l4,-4" })],
  dots: () => [s("circle", { cx: 2, cy: 2, r: 1.3 }), s("circle", { cx: 6, cy: 6, r: 1.3 })],
  cross: () => [s("path", { d: "M0,0 l8,8 M8,0 l-8,8" })],
  rows: () => [s("path", { d: "M0,2 h8 M0,6 h8" })],
  columns: () => [s("path", { d: "M2,0 v8 M6,0 v8" })],
};

/**
 * A figure of stacked bars.
 *
 * id, title      unique in the page; what is shown
 * summary        the same in a sentence
 * series         [{ name, tone, pattern }], from the ground up; pattern is one of PATTERNS
 * bars           [{ label, short, values: [number of each series], href }]
 * first          the name of the first column of the table
 */
export function stackedBars({ id, title, summary, series, bars, first = "Time" }) {
  const drawing = h("div", { class: "drawing" });
  const figure = h(
    "figure",
    { class: "chart", "aria-labelledby": `${id}-title` },
    h("figcaption", {}, h("h2", { id: `${id}-title` }, title), h("p", { class: "hint" }, summary)),
    drawing,
    legend(id, series),
    h(
      "details",
      { id: `${id}-table` },
      h("summary", {}, "As a table"),
      scrolled(`${title}, as a table`, table(title, [first, ...series.map(({ name }) => name)], bars.map(({ label, values }) => [label, ...values.map(String)]))),
    ),
  );
  let drawnAt = 0;
  new ResizeObserver(([{ contentRect }]) => {
    const width = Math.floor(contentRect.width);
    if (width === drawnAt || width < 1) return;
    drawnAt = width;
    fill(drawing, drawn({ id, title, summary, series, bars }, width));
  }).observe(drawing);
  return figure;
}

function drawn({ id, title, summary, series, bars }, width) {
  const most = Math.max(1, ...bars.map(({ values }) => total(values)));
  const top = nice(most);
  const inner = { width: width - EDGE.left - EDGE.right, height: HEIGHT - EDGE.top - EDGE.bottom };
  const at = (count) => EDGE.top + inner.height * (1 - count / top);
  return s(
    "svg",
    { width, height: HEIGHT, viewBox: `0 0 ${width} ${HEIGHT}`, role: "img", "aria-label": `${title}. ${summary}` },
    s("defs", {}, series.map((each, number) => pattern(`${id}-${number}`, each))),
    grid(top, at, width),
    bars.map((bar, number) => column(bar, number, { id, series, bars, inner, at })),
  );
}

function total(values) {
  return values.reduce((sum, each) => sum + each, 0);
}

/** The next round number that can be halved. */
function nice(most) {
  const power = 10 ** Math.floor(Math.log10(most));
  return Math.max(2, [1, 2, 4, 6, 8, 10].find((each) => each * power >= most) * power);
}

function grid(top, at, width) {
  return [0, top / 2, top].map((count) => [
    s("line", { class: "grid", x1: EDGE.left, x2: width - EDGE.right, y1: at(count), y2: at(count) }),
    s("text", { class: "axis", x: EDGE.left - 6, y: at(count) + 4, "text-anchor": "end" }, brief(count)),
  ]);
}

function brief(count) {
  return new Intl.NumberFormat("en", { notation: "compact" }).format(count);
}

function column({ label, short, values }, number, { id, series, bars, inner, at }) {
  const step = inner.width / bars.length;
  const width = Math.max(2, Math.min(step * 0.72, 48));
  const x = EDGE.left + step * (number + 0.5);
  const every = Math.ceil(NARROWEST_LABEL / step);
  const told = series.map(({ name }, each) => (values[each] ? `${name} ${values[each]}` : null)).filter(Boolean).join(", ");
  let ground = 0;
  return s(
    "g",
    { class: "bar" },
    s("title", {}, `${label}: ${told || "none"}`),
    s("rect", { class: "reach", x: x - step / 2, width: step, y: EDGE.top, height: inner.height }),
    values.map((count, each) => {
      if (!count) return null;
      const from = at(ground);
      ground += count;
      // Whatever happened once must be seen beside what happened ten thousand times.
      const height = Math.max(3, from - at(ground));
      return s("rect", { class: `part tone-${series[each].tone}`, x: x - width / 2, width, y: from - height, height, fill: `url(#${id}-${each})` });
    }),
    (bars.length - 1 - number) % every === 0 && s("text", { class: "axis", x, y: HEIGHT - 6, "text-anchor": "middle" }, short),
  );
}

function pattern(name, { tone, pattern: kind }) {
  return s(
    "pattern",
    { id: name, width: 8, height: 8, patternUnits: "userSpaceOnUse", class: `pattern tone-${tone}` },
    s("rect", { width: 8, height: 8, class: kind === "plain" ? "full" : "pale" }),
    PATTERNS[kind](),
  );
}

function legend(id, series) {
  const sample = (each, number) =>
    s(
      "svg",
      { width: 18, height: 14, "aria-hidden": "true" },
      s("defs", {}, pattern(`${id}-legend-${number}`, each)),
      s("rect", { class: `part tone-${each.tone}`, x: 1, y: 1, width: 16, height: 12, fill: `url(#${id}-legend-${number})` }),
    );
  return h("ul", { class: "legend" }, series.map((each, number) => h("li", {}, sample(each, number), each.name)));
}
