// Both truths of a customer field by field, with the differences marked.

import { h } from "../dom.js";
import { chip, value } from "../pieces.js";
import { COMPARED, camel, label } from "../words.js";

/** The table of the fields that both sides have. */
export function compared(seen) {
  const differences = new Map(seen.differences.map((each) => [camel(each.field), each]));
  const names = [...COMPARED, ...[...differences.keys()].filter((each) => !COMPARED.includes(each))];
  const chosen = chosenOf(seen);
  const column = (title) => h("th", { scope: "col" }, title);
  return h(
    "table",
    { class: "compared" },
    h("caption", { class: "unseen" }, "Each field as it is stored here and as Stripe shows it"),
    h("thead", {}, h("tr", {}, column("Field"), column("Stored here"), column(seen.live ? "At Stripe" : "At Stripe (no answer)"))),
    h("tbody", {}, names.map((name) => row(name, seen, chosen, differences.get(name)))),
  );
}

function row(name, seen, chosen, difference) {
  const here = difference ? difference.stored : storedValue(name, seen);
  const mark = difference && chip(`differs, ${difference.severity}`, difference.severity);
  return h(
    "tr",
    { class: difference ? "differs" : null, "data-field": name },
    h("th", { scope: "row" }, h("span", {}, label(name)), mark),
    h("td", { "data-label": "Stored here" }, value(here)),
    h("td", { "data-label": "At Stripe" }, difference ? value(difference.live) : liveValue(name, seen, chosen)),
  );
}

function storedValue(name, seen) {
  return name === "organization.plan" ? seen.organization.plan : seen.stored?.[name];
}

/** The subscription that the comparison is about: the row's, unless a difference names another one. */
function chosenOf({ stored, live, differences }) {
  const other = differences.find((each) => camel(each.field) === "stripeSubscriptionId");
  const id = other ? other.live : stored?.stripeSubscriptionId;
  return live?.subscriptions.find((each) => each.id === id);
}

function liveValue(name, seen, chosen) {
  if (!seen.live) return h("span", { class: "none" }, "not known");
  const ours = name === "organization.plan" || name === "plan";
  if (ours) return h("span", { class: "none", title: "Stripe has no such field" }, "ours alone");
  if (!chosen) return value(name === "stripeCustomerId" ? seen.live.customer?.id : null);
  const names = { stripePlan: "plan", stripeSubscriptionId: "id", stripeCustomerId: "customer" };
  return value(chosen[names[name] || name]);
}
