// How far something is, as a bar and in words.

import { h } from "../dom.js";

/** `total` null: nobody knows how much there is. */
export function progress({ done, total, words }) {
  return h(
    "div",
    { class: "progress" },
    h("progress", { "aria-label": words, ...(total ? { value: Math.min(done, total), max: total } : {}) }),
    h("p", { class: "hint" }, words),
  );
}
