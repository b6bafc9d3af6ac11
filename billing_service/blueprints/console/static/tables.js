// A list of the API as a table: `{items, total, limit, nextCursor}`, page by page. What is looked at stands in the
// address: the filter, the page (`cursor`, and in `trail` the pages before it) and the order (`sort`).

import { call } from "./api.js";
import { byId, fill, h, redraw } from "./dom.js";
import { scrolled, troubleOf } from "./pieces.js";
import { count } from "./words.js";

// So many pages back the address remembers; then "first page" is the way back.
const REMEMBERED = 20;

/**
 * Fill the container with a listing, and resolve when its page is there.
 *
 * path      the endpoint; `always` are parameters that it always gets
 * query     the URLSearchParams of the address
 * columns   [{ title, cell(item), sort?(item) }]: a cell is a node or a text, `sort` gives what the loaded page is
 *           ordered by; { title, cell, wide: true } may wrap
 * link      item => hash, or null: the first cell becomes a link to it
 * filters   [{ name, label, options: [value or [value, words]] }] or { name, label, type: "text" | "moment" }
 * caption   what the table is, for those who do not see it; `empty` what to say where there is nothing
 * buttons   more elements beside the filter, such as a download
 * loaded    (page) => called with each answer
 *
 * Returns { reload() }, which loads the same page again and leaves what is shown until then.
 */
export async function listing(container, options) {
  const results = h("div", { class: "results" });
  fill(container, options.filters?.length > 0 && filterForm(options), results);
  const load = async (quietly) => {
    results.setAttribute("aria-busy", "true");
    if (!quietly) fill(results, loading());
    try {
      const page = await call("GET", options.path, { query: asked(options), signal: options.signal });
      options.loaded?.(page);
      const draw = () => fill(results, ...drawn(page, options));
      if (quietly) redraw(results, draw);
      else draw();
    } catch (error) {
      if (error.name === "AbortError") throw error;
      fill(results, troubleOf(error, () => load()));
    } finally {
      results.removeAttribute("aria-busy");
    }
  };
  await load(false);
  return { reload: () => load(true) };
}

export function loading(words = "Loading …") {
  return h("p", { class: "loading" }, words);
}

function asked({ query, filters = [], always = {} }) {
  const names = ["cursor", "limit", ...filters.map(({ name }) => name)];
  return { ...always, ...Object.fromEntries(names.map((name) => [name, query.get(name)]).filter(([, value]) => value)) };
}

/** The address of the view that is shown, with other parameters. */
function here(parameters) {
  const text = String(parameters);
  return location.hash.split("?")[0] + (text ? `?${text}` : "");
}

/* The filter */

function filterForm(options) {
  const { filters, query, go } = options;
  const controls = filters.map((filter) => field(filter, query.get(filter.name) || ""));
  const set = filters.some(({ name }) => query.get(name));
  const form = h(
    "form",
    { id: "filter", class: set ? "filter" : "filter folded", role: "search", "aria-label": `Filter: ${options.caption}` },
    controls,
    h(
      "div",
      { class: "buttons" },
      h("button", { type: "submit", class: "quiet", id: "filter-show" }, "Filter"),
      set && h("a", { href: here(without(query, filters)), class: "clear" }, "Clear"),
      unfolding(set),
      options.buttons,
    ),
  );
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    go(here(chosen(form, options)));
  });
  form.addEventListener("change", (event) => {
    if (event.target.matches("select")) form.requestSubmit();
  });
  return form;
}

/** On a narrow screen the fields are in the way of what they filter: there they are unfolded first. */
function unfolding(set) {
  const button = h("button", { type: "button", class: "quiet unfold", "aria-controls": "filter", "aria-expanded": String(Boolean(set)) }, "Show the filter");
  button.addEventListener("click", () => {
    button.closest("form").classList.remove("folded");
    button.remove();
    byId("filter").querySelector("input, select").focus();
  });
  return set ? null : button;
}

function field({ name, label, options, type }, content) {
  const id = `filter-${name}`;
  return h("div", { class: "field" }, h("label", { for: id }, label), options ? choices(id, name, options, content) : input(id, name, type, content));
}

function choices(id, name, options, content) {
  const pairs = options.map((each) => (Array.isArray(each) ? each : [each, each]));
  const all = [["", "all"], ...pairs];
  return h("select", { id, name }, all.map(([value, words]) => h("option", { value, selected: value === content }, words)));
}

function input(id, name, type, content) {
  if (type !== "moment") return h("input", { id, name, value: content, autocomplete: "off", spellcheck: "false", maxlength: "300" });
  return h("input", { id, name, type: "datetime-local", "data-moment": true, value: local(content) });
}

/** What `datetime-local` knows: the local time, without its zone. */
function local(moment) {
  const date = new Date(moment);
  if (!moment || Number.isNaN(date.getTime())) return "";
  return new Date(date - date.getTimezoneOffset() * 60_000).toISOString().slice(0, 16);
}

function chosen(form, { filters, query }) {
  const parameters = without(query, filters);
  for (const { name } of filters) {
    const control = form.elements[name];
    const text = control.value.trim();
    if (text) parameters.set(name, control.dataset.moment === undefined ? text : new Date(text).toISOString());
  }
  return parameters;
}

function without(query, filters) {
  const parameters = new URLSearchParams(query);
  for (const name of ["cursor", "trail", ...filters.map((each) => each.name)]) parameters.delete(name);
  return parameters;
}

/* The page */

function drawn(page, options) {
  if (!page.items.length) return [nothing(options)];
  const { sort, items } = ordered(page.items, options);
  const columns = options.columns;
  const body = items.map((item) =>
    h("tr", {}, columns.map((column, position) => cell(column, item, position === 0 && options.link?.(item)))),
  );
  const head = columns.map((column, position) => headCell(column, position, sort, options));
  return [
    scrolled(options.caption, h("table", { class: "list" }, h("caption", { class: "unseen" }, options.caption), h("thead", {}, h("tr", {}, head)), h("tbody", {}, body))),
    pager(page, options),
  ];
}

function nothing({ empty, query, filters = [] }) {
  const set = filters.some(({ name }) => query.get(name)) || query.get("cursor");
  const clear = set && h("a", { href: here(without(query, filters)) }, "Show all");
  return h("div", { class: "empty" }, h("p", {}, set ? "Nothing matches." : empty), clear);
}

function cell(column, item, target) {
  const content = column.cell(item);
  return h("td", { "data-label": column.title, class: column.wide ? "wide" : null }, target ? h("a", { href: target, class: "row" }, content) : content);
}

function headCell(column, position, sort, { query, go }) {
  if (!column.sort) return h("th", { scope: "col" }, column.title);
  const mine = sort?.position === position;
  const next = new URLSearchParams(query);
  next.set("sort", mine && !sort.descending ? `-${position}` : String(position));
  const direction = mine ? (sort.descending ? "descending" : "ascending") : null;
  return h(
    "th",
    { scope: "col", "aria-sort": direction },
    h("button", { type: "button", class: "sort", id: `sort-${position}`, title: "Sorts this page", onclick: () => go(here(next)) }, column.title),
  );
}

function ordered(items, { columns, query }) {
  const [, minus, number] = /^(-?)(\d+)$/.exec(query.get("sort") || "") || [];
  const by = columns[Number(number)]?.sort;
  if (number === undefined || !by) return { items, sort: null };
  const sorted = [...items].sort((one, other) => compared(by(one), by(other)));
  return { items: minus ? sorted.reverse() : sorted, sort: { position: Number(number), descending: minus === "-" } };
}

function compared(one, other) {
  const missing = (each) => each === null || each === undefined || each === "";
  if (missing(one) || missing(other)) return missing(one) - missing(other);
  return typeof one === "number" && typeof other === "number" ? one - other : String(one).localeCompare(String(other));
}

function pager(page, { query }) {
  const trail = query.getAll("trail");
  const cursor = query.get("cursor");
  const words = page.total === null || page.total === undefined ? "" : `${page.totalIsCapped ? "more than " : ""}${count(page.total, "row")}`;
  const step = (name, id, target) => h("a", { href: here(target), id, class: "step" }, name);
  return h(
    "nav",
    { class: "pager", "aria-label": "Pages" },
    h("span", { class: "hint" }, words),
    cursor && step("First page", "page-first", paged(query, null, [])),
    cursor && trail.length > 0 && step("Previous", "page-previous", paged(query, trail.at(-1), trail.slice(0, -1))),
    page.nextCursor && step("Next", "page-next", paged(query, page.nextCursor, [...trail, cursor || ""].slice(-REMEMBERED))),
  );
}

function paged(query, cursor, trail) {
  const parameters = new URLSearchParams(query);
  parameters.delete("trail");
  parameters.delete("cursor");
  if (cursor) parameters.set("cursor", cursor);
  for (const each of cursor ? trail : []) parameters.append("trail", each);
  return parameters;
}
