// The search for a customer: what matched, and the way there.

import { Problem, call } from "../api.js";
import { byId, fill, h } from "../dom.js";
import { heading, ourId, stripeLink, table, trouble, value } from "../pieces.js";
import { address } from "../router.js";
import { count } from "../words.js";

/** The hits of `q`; a single one is gone to at once. */
export async function showSearch(container, { query, signal, say }) {
  const text = query.get("q") || "";
  byId("query").value = text;
  if (!text) return fill(container, invitation());
  if (text.trim().length < 2) throw new Problem({ title: "Say more of it", detail: "Two characters are needed at least." });
  fill(container, h("p", { class: "loading" }, "Searching …"));
  const found = await call("GET", "/api/admin/billing/search", { query: { q: text }, signal });
  const only = found.items.length === 1 && !found.strangers.length && !found.trouble && !found.eventId;
  if (only) return location.replace(address("customer", found.items[0].orgId));
  fill(container, ...drawn(text, found));
  say(count(found.items.length, "organization"));
}

function invitation() {
  return [
    heading("Customers"),
    h(
      "div",
      { class: "panel invitation" },
      h("p", {}, "Find an organization by whatever you have in hand: the beginning of its name or slug, its id, an e-mail address of its customer, or an id of Stripe's."),
      h("p", { class: "hint" }, "Press ", h("kbd", {}, "/"), " wherever you are."),
      h("ul", { class: "examples hint" }, ["cus_…", "sub_…", "ch_…", "pi_…", "in_…", "re_…", "dp_…", "evt_…"].map((each) => h("li", {}, h("code", {}, each)))),
    ),
  ];
}

function drawn(text, found) {
  const { items, strangers, eventId } = found;
  return [
    heading(items.length ? count(items.length, "organization") : "Nothing found", h("p", { class: "hint" }, "for ", h("q", {}, text))),
    found.trouble && trouble({ ...found.trouble, title: "Stripe could not be searched; what is stored here was" }),
    eventId && h("p", { class: "panel" }, "The ledger has the event ", ourId(eventId, address("events", eventId)), "."),
    items.length > 0 && h("div", { class: "panel" }, hits(items)),
    strangers.length > 0 && unknown(strangers),
    found.isCapped && h("p", { class: "hint" }, "There are more: say more of what you look for."),
    !items.length && !strangers.length && !eventId && nothing(),
  ];
}

function hits(items) {
  const rows = items.map((each) => [
    h("a", { href: address("customer", each.orgId) }, each.name || each.orgId),
    value(each.slug),
    value(each.plan),
    value(each.status),
    value(each.stripeCustomerId),
    h("span", {}, each.matched),
  ]);
  return table("Organizations that match", ["Organization", "Slug", "Plan", "Status", "Customer", "Matched"], rows);
}

function unknown(strangers) {
  return h(
    "div",
    { class: "panel" },
    h("p", {}, "At Stripe, and of no organization here: paid by somebody whom nobody has linked. Open the organization that it should be, and link the subscription."),
    h("ul", { class: "cards" }, strangers.map((each) => h("li", {}, stripeLink(each)))),
  );
}

function nothing() {
  return h(
    "div",
    { class: "panel empty" },
    h("p", {}, "No name or slug begins so, and no id is known. Names are looked for from their beginning; e-mail addresses must be whole."),
  );
}
