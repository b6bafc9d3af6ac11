// Pieces that several parts of the page are made of.

import { Problem } from "./api.js";
import { fill, h, redraw } from "./dom.js";
import * as session from "./session.js";
import { ago, isMoment, localMoment, moment, plain } from "./words.js";

const CODES = /^(cus|sub|price|ch|py|pi|evt|in|re|pyr|dp|du|prod|req|cs|acct)_[A-Za-z0-9_]+$/;

// Where Stripe's dashboard shows an object of each kind; what is not here is searched for.
const PLACES = {
  cus: "customers",
  sub: "subscriptions",
  price: "prices",
  prod: "products",
  ch: "payments",
  py: "payments",
  pi: "payments",
  in: "invoices",
  evt: "events",
  re: "refunds",
  pyr: "refunds",
  dp: "disputes",
  du: "disputes",
};

/** The heading that a view begins with; the router gives it the focus. `more` stands below it. */
export function heading(title, ...more) {
  return h("header", { class: "heading" }, h("h1", { tabindex: "-1" }, title), ...more);
}

/** A value as a reader knows it: times as times, ids as code with a link, nothing as a pale word. */
export function value(content) {
  if (content === null || content === undefined || content === "") return h("span", { class: "none" }, "none");
  if (isMoment(content)) return moments(content);
  if (typeof content === "string" && CODES.test(content)) return stripeLink(content);
  return h("span", {}, plain(content));
}

/** A time in UTC, and below it in the reader's own zone and how long ago it was. */
export function moments(content, { brief = false } = {}) {
  if (!isMoment(content)) return value(content === undefined ? null : content);
  const own = localMoment(content);
  return h(
    "time",
    { datetime: content, class: "moment", title: `${own} (${ago(content)})` },
    h("span", {}, moment(content)),
    !brief && elsewhere(content) && h("span", { class: "local" }, own),
  );
}

/** Whether the reader's clock shows another time than UTC. */
function elsewhere(content) {
  return new Date(content).getTimezoneOffset() !== 0;
}

/** An id of Stripe's: leads to the dashboard, in the mode that the service is in, and can be copied. */
export function stripeLink(id, live = session.livemode()) {
  const place = PLACES[String(id).split("_")[0]];
  const base = `https://dashboard.stripe.com/${live ? "" : "test/"}`;
  const target = place ? `${base}${place}/${encodeURIComponent(id)}` : `${base}search?query=${encodeURIComponent(id)}`;
  return h(
    "span",
    { class: "id" },
    h("a", { href: target, target: "_blank", rel: "noopener noreferrer", title: "Opens Stripe's dashboard" }, h("code", {}, id)),
    copyButton(id),
  );
}

/** An id of ours, that can be copied; `href` leads to where the console shows it. */
export function ourId(id, href = null) {
  return h("span", { class: "id" }, href ? h("a", { href }, h("code", {}, id)) : h("code", {}, id), copyButton(id));
}

function copyButton(text) {
  const button = h("button", { type: "button", class: "copy", "aria-label": `Copy ${text}`, title: "Copy" });
  button.addEventListener("click", async () => {
    const copied = await copy(text);
    button.classList.toggle("copied", copied);
    document.getElementById("said").textContent = copied ? `Copied ${text}.` : `${text} could not be copied: mark it and copy it by hand.`;
    setTimeout(() => button.classList.remove("copied"), 2000);
  });
  return button;
}

async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    return false;
  }
}

/** A name like `customer.subscription.updated`, which may be broken after its dots. */
export function dotted(name) {
  return String(name)
    .split(/(?<=[._])/)
    .map((each, position) => [position > 0 && h("wbr"), each]);
}

export function chip(text, tone = "calm") {
  return h("span", { class: `chip ${tone}` }, text);
}

/** A problem+json in words, with what support needs to find it in the logs; `more` is what can be done. */
export function trouble(problem, ...more) {
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
    more.length > 0 && h("div", { class: "buttons" }, more),
  );
}

/** What was thrown, in words, with a button that tries again. */
export function troubleOf(error, retry) {
  const problem = error instanceof Problem ? error.document : { title: "The console failed", detail: String(error) };
  return trouble(problem, retry && h("button", { type: "button", class: "quiet", onclick: () => retry() }, "Try again"));
}

const newest = new WeakMap();

/** Whether what was begun now is still the last that was begun for the container: an overtaken answer is dropped. */
export function newestOf(container) {
  const mine = {};
  newest.set(container, mine);
  return () => newest.get(container) === mine;
}

/** Fill a part of a view with what it loads; its trouble stays its own. `draw(content)` gives the nodes. */
export async function part(container, load, draw) {
  const isNewest = newestOf(container);
  container.setAttribute("aria-busy", "true");
  if (!container.childNodes.length) fill(container, h("p", { class: "loading" }, "Loading …"));
  try {
    const content = await load();
    if (isNewest()) redraw(container, () => fill(container, draw(content)));
  } catch (error) {
    if (error.name === "AbortError" || !isNewest()) return;
    fill(container, troubleOf(error, () => part(container, load, draw)));
  } finally {
    if (isNewest()) container.removeAttribute("aria-busy");
  }
}

/** A section with a heading; `id` names it for links and for readers of the page. */
export function section(id, title, ...content) {
  return h("section", { "aria-labelledby": id, class: "panel" }, h("h2", { id }, title), ...content);
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

/** What may be wider than its place: it scrolls by itself, by keyboard too. */
export function scrolled(label, ...content) {
  return h("div", { class: "scroll", role: "region", "aria-label": label, tabindex: "0" }, content);
}

/** Names and values below each other. */
export function facts(pairs) {
  return h(
    "dl",
    { class: "facts" },
    pairs.map(([name, content]) => h("div", {}, h("dt", {}, name), h("dd", {}, content))),
  );
}
