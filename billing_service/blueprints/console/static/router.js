// From the address to a view. Addresses are `#/NAME[/ID][?filter=…]`; a view is a module of views/ that exports
//
//   export const view = { name, title, needs, show }
//
// `needs` is the permission without which the view is not offered (or null). `async show(container, context)` fills
// the container, which is in the page already; the context is { id, query, signal, go, say, can }. What it throws is
// shown here, with a button that tries again. A view begins with `heading(title)` of pieces.js, which gets the focus.

import { Problem } from "./api.js";
import { byId, fill, h } from "./dom.js";
import { trouble } from "./pieces.js";
import * as session from "./session.js";

const NAME = "Billing console";
let views = [];
let underWay = null;
let shown = null;

/** Show what the address names from now on; the first view is where nothing is named. */
export function start(all) {
  views = all;
  session.onChange(drawNavigation);
  session.onChange((known) => known || fill(byId("view")));
  window.addEventListener("hashchange", () => show());
  show();
}

/** Go to an address; to the one that is shown: look again. */
export function go(hash) {
  if (location.hash === hash) show();
  else location.hash = hash;
}

/** The address of a view, for links: `address("customer", id, { q: "x" })`. */
export function address(name, id, query = {}) {
  const entries = query instanceof URLSearchParams ? [...query] : Object.entries(query);
  const text = new URLSearchParams(entries.filter(([, value]) => value !== null && value !== undefined && value !== ""));
  const path = id === null || id === undefined ? `#/${name}` : `#/${name}/${encodeURIComponent(id)}`;
  return String(text) ? `${path}?${text}` : path;
}

/** Speak in the live region. */
export function say(text) {
  byId("said").textContent = text;
}

/** Show the view of the address again or anew; an answer that was overtaken by another address is dropped. */
export async function show() {
  underWay?.abort();
  const mine = (underWay = new AbortController());
  const at = parsed(location.hash);
  const container = h("section", { class: "view", "aria-busy": "true" });
  const moved = !shown || shown.name !== at.name || shown.id !== at.id;
  const focused = moved ? null : document.activeElement?.id;
  if (!session.who()) fill(byId("view"), h("p", { class: "loading" }, "Asking who is signed in …"));
  try {
    await session.know(mine.signal);
    if (mine !== underWay) return;
    const view = chosen(at);
    place(container, view, at, moved);
    await view.show(container, { ...at, signal: mine.signal, go, say, can: session.can });
  } catch (error) {
    if (mine !== underWay || error.name === "AbortError") return;
    showTrouble(container, error);
  } finally {
    if (mine === underWay) arrive(container, moved, focused);
  }
}

function parsed(hash) {
  const [path, text] = hash.replace(/^#\/?/, "").split("?", 2);
  const [name, ...rest] = path.split("/");
  return { name: name || views[0].name, id: rest.length ? decoded(rest.join("/")) : null, query: new URLSearchParams(text || "") };
}

function decoded(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

function chosen({ name }) {
  const view = views.find((each) => each.name === name);
  if (!view) throw new Problem({ title: "There is no such view", detail: `The console has no view named ${name}.` });
  if (session.can(view.needs)) return view;
  const roles = session.who().roles.join(", ") || "none";
  throw new Problem({
    title: `You may not see ${view.title}`,
    detail: `This needs the permission ${view.needs}; your roles (${roles}) do not include it.`,
    code: "forbidden",
  });
}

/** The container takes the old one's place; of the same view at the same height, so that the page does not jump. */
function place(container, view, at, moved) {
  shown = { name: at.name, id: at.id };
  if (!moved) container.style.minHeight = `${byId("view").offsetHeight}px`;
  fill(byId("view"), container);
  document.title = `${view.title} · ${NAME}`;
  markNavigation();
}

function showTrouble(container, error) {
  if (!container.isConnected) fill(byId("view"), container);
  const problem = error instanceof Problem ? error.document : { title: "The console failed", detail: String(error) };
  const again = h("button", { type: "button", class: "quiet", onclick: () => show() }, "Try again");
  shown = null;
  markNavigation();
  document.title = `${problem.title} · ${NAME}`;
  fill(container, h("h1", { tabindex: "-1", class: "unseen" }, problem.title), trouble(problem, again));
  say("");
}

/** What was asked for has arrived: new views get the focus, in the same one it stays where it was. */
function arrive(container, moved, focused) {
  container.removeAttribute("aria-busy");
  container.style.minHeight = "";
  if (document.querySelector("dialog[open]")) return;
  const kept = focused && byId(focused);
  if (kept && document.activeElement === document.body) kept.focus({ preventScroll: true });
  const typing = document.activeElement?.matches("input, select, textarea");
  if (!moved || typing || container.contains(document.activeElement)) return;
  (container.querySelector("h1[tabindex], h2[tabindex]") || byId("main")).focus({ preventScroll: true });
  window.scrollTo(0, 0);
}

function drawNavigation(known) {
  const offered = known ? views.filter((each) => !each.hidden && session.can(each.needs)) : [];
  const links = offered.map((each) => h("li", {}, h("a", { href: `#/${each.name}`, "data-view": each.name }, each.title)));
  fill(byId("navigation"), links);
  markNavigation();
}

function markNavigation() {
  for (const link of byId("navigation").querySelectorAll("a")) {
    if (link.dataset.view === shown?.name) mark(link);
    else link.removeAttribute("aria-current");
  }
}

/** On a narrow screen the list of views is wider than the page. */
function mark(link) {
  link.setAttribute("aria-current", "page");
  const list = byId("navigation");
  list.scrollLeft = link.offsetLeft - list.offsetLeft - (list.clientWidth - link.offsetWidth) / 2;
}
