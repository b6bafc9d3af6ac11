// Pieces that several parts of the page are made of.

import { h } from "./dom.js";
import { isMoment, moment, plain } from "./words.js";

const CODES = /^(cus|sub|price|ch|py|pi|evt|in|re|prod|req)_/;

/** A value as a reader knows it: times as times, ids as code, nothing as a pale word. */
export function value(content) {
  if (content === null || content === undefined || content === "") return h("span", { class: "none" }, "none");
  if (isMoment(content)) return h("time", { datetime: content }, moment(content));
  if (typeof content === "string" && CODES.test(content)) return h("code", {}, content);
  return h("span", {}, plain(content));
}

export function chip(text, tone) {
  return h("span", { class: `chip ${tone}` }, text);
}

/** A problem+json in words, with what support needs to find it in the logs. */
export function trouble(problem) {
  const fields = Object.entries(problem.errors || {});
  return h(
    "div",
    { class: "trouble", role: "alert" },
    h("strong", {}, problem.title || "It failed"),
    problem.detail && h("p", {}, problem.detail),
    fields.length > 0 && h("ul", {}, fields.map(([name, messages]) => h("li", {}, `${name}: ${plain(messages)}`))),
    h(
      "p",
      { class: "hint" },
      problem.code && [h("code", {}, problem.code), " "],
      problem.requestId && ["request id ", h("code", {}, problem.requestId)],
    ),
  );
}

/** A section with a heading; `id` names it for links and for readers of the page. */
export function section(id, title, ...content) {
  return h("section", { "aria-labelledby": id, class: "panel" }, h("h3", { id }, title), ...content);
}

/** A table whose cells carry their column's name, which narrow screens show instead of the head. */
export function table(caption, columns, rows) {
  return h(
    "table",
    { class: "list" },
    h("caption", { class: "unseen" }, caption),
    h("thead", {}, h("tr", {}, columns.map((name) => h("th", { scope: "col" }, name)))),
    h(
      "tbody",
      {},
      rows.map((cells) =>
        h("tr", {}, cells.map((cell, position) => h("td", { "data-label": columns[position] }, cell))),
      ),
    ),
  );
}

/** Names and values below each other. */
export function facts(pairs) {
  return h(
    "dl",
    { class: "facts" },
    pairs.map(([name, content]) => h("div", {}, h("dt", {}, name), h("dd", {}, content))),
  );
}
