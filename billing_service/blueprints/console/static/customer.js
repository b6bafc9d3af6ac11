// One organization: the verdict, both truths side by side, and what happened.

import { h } from "./dom.js";
import { chip, facts, section, table, value } from "./pieces.js";
import { COMPARED, VERDICTS, camel, count, label, money, tone } from "./words.js";

// Actions that have a dialog here; the API knows more.
const OFFERED = ["sync", "link", "cancel"];
const STATES = { succeeded: "good", dead: "bad", failed: "warn", open: "warn", unknown: "warn" };

/** The whole view; `act(name)` opens the dialog of an action. */
export function customerView(seen, act) {
  return [
    heading(seen),
    verdict(seen, act),
    section("compared", "Stored here and at Stripe", compared(seen)),
    h(
      "div",
      { class: "halves" },
      h("div", {}, section("here", "More of what is stored", stored(seen)), findings(seen.openFindings)),
      h("div", {}, section("there", "More of what Stripe shows", ...live(seen.live))),
    ),
    events(seen.recentEvents),
    audit(seen.audit),
  ];
}

function heading({ organization }) {
  return h(
    "div",
    { class: "heading" },
    h("h2", { tabindex: "-1", id: "customer" }, organization.name || "An organization without a name"),
    h(
      "p",
      { class: "hint" },
      h("span", {}, organization.slug || "no slug"),
      h("code", {}, organization.id),
      h("span", {}, "has the plan ", h("strong", {}, organization.plan || "none")),
    ),
  );
}

function verdict(seen, act) {
  const actions = seen.actions.filter(({ name }) => OFFERED.includes(name));
  return h(
    "section",
    { class: `verdict ${tone(seen.verdict, seen.differences)}`, "aria-labelledby": "verdict" },
    h("h3", { id: "verdict" }, VERDICTS[seen.verdict] || label(seen.verdict)),
    h("p", {}, seen.explanation),
    h("div", { class: "buttons" }, actions.map((each) => actionButton(each, seen, act))),
    reasons(actions),
  );
}

function actionButton(action, seen, act) {
  const first = action.allowed && action.name === "sync" && seen.differences.length > 0;
  return h(
    "button",
    {
      type: "button",
      class: first ? "" : "quiet",
      disabled: !action.allowed,
      "data-action": action.name,
      onclick: () => act(action.name),
    },
    { sync: "Sync from Stripe", link: "Link a subscription", cancel: "Cancel" }[action.name] || label(action.name),
  );
}

function reasons(actions) {
  const refused = new Map();
  for (const each of actions.filter(({ allowed, reason }) => !allowed && reason)) {
    refused.set(each.reason, [...(refused.get(each.reason) || []), label(each.name)]);
  }
  if (!refused.size) return null;
  return h("ul", { class: "hint" }, [...refused].map(([why, names]) => h("li", {}, `${names.join(", ")}: ${why}.`)));
}

function compared(seen) {
  const differences = new Map(seen.differences.map((each) => [camel(each.field), each]));
  const names = [...COMPARED, ...[...differences.keys()].filter((each) => !COMPARED.includes(each))];
  const chosen = chosenOf(seen);
  return h(
    "table",
    { class: "compared" },
    h("caption", { class: "unseen" }, "Each field as it is stored here and as Stripe shows it"),
    h(
      "thead",
      {},
      h(
        "tr",
        {},
        h("th", { scope: "col" }, "Field"),
        h("th", { scope: "col" }, "Stored here"),
        h("th", { scope: "col" }, seen.live ? "At Stripe" : "At Stripe (no answer)"),
      ),
    ),
    h("tbody", {}, names.map((name) => comparedRow(name, seen, chosen, differences.get(name)))),
  );
}

function comparedRow(name, seen, chosen, difference) {
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

function stored({ stored: row }) {
  if (!row) return h("p", { class: "empty" }, "There is no row: this organization was never billed.");
  const rest = Object.entries(row).filter(([name]) => !COMPARED.includes(name) && name !== "orgId");
  return facts(rest.map(([name, content]) => [label(name), value(content)]));
}

function live(shown) {
  if (!shown) return [h("p", { class: "empty" }, "Stripe did not answer.")];
  return [customer(shown.customer), subscriptions(shown.subscriptions), payments(shown.payments)];
}

function customer(one) {
  if (!one) return h("p", { class: "empty" }, "No customer is known or to be found.");
  if (one.deleted) return facts([["Customer", h("code", {}, one.id)], ["Deleted", "yes"]]);
  return facts([
    ["Name", value(one.name)],
    ["E-mail", value(one.email)],
    ["Balance", money(one.balance, one.currency)],
    ["Owes", one.delinquent ? chip("delinquent", "high") : "nothing overdue"],
  ]);
}

function subscriptions(all) {
  if (!all.length) return h("p", { class: "empty" }, "No subscriptions.");
  const rows = all.map((each) => [
    h("code", {}, each.id),
    h("span", {}, each.status),
    h("span", {}, each.plan || "no plan", ` (${price(each)})`),
    value(each.created),
  ]);
  return [h("h4", {}, count(all.length, "subscription")), table("Subscriptions at Stripe", ["Subscription", "Status", "Plan", "Created"], rows)];
}

function price(subscription) {
  const amount = money(subscription.unitAmount, subscription.currency);
  const times = subscription.quantity > 1 ? `${subscription.quantity} × ` : "";
  return `${times}${amount}${subscription.interval ? ` a ${subscription.interval}` : ""}`;
}

function payments(all) {
  if (!all.length) return h("p", { class: "empty" }, "No payments.");
  const rows = all.map((each) => [
    h("code", {}, each.id),
    money(each.amount, each.currency),
    h("span", {}, chip(each.status, each.status === "failed" ? "bad" : "good"), " ", fate(each)),
    value(each.created),
  ]);
  return [h("h4", {}, count(all.length, "payment")), table("Payments at Stripe", ["Charge", "Amount", "Status", "Created"], rows)];
}

function fate(payment) {
  const words = [
    payment.failureMessage,
    payment.disputed && "disputed",
    payment.amountRefunded > 0 && `${money(payment.amountRefunded, payment.currency)} refunded`,
  ];
  return words.filter(Boolean).join(", ");
}

function findings(all) {
  if (!all.length) return section("findings", "Open findings", h("p", { class: "empty" }, "None."));
  const items = all.map((each) =>
    h(
      "li",
      {},
      h("p", {}, chip(each.severity, each.severity), " ", h("strong", {}, label(each.kind)), `, ${each.state}`),
      h("p", {}, value(each.live?.explanation || each.live)),
      h("p", { class: "hint" }, "seen ", count(each.timesSeen, "time"), ", last ", value(each.lastSeenAt)),
    ),
  );
  return section("findings", "Open findings", h("ul", { class: "cards" }, items));
}

function events(all) {
  if (!all.length) return section("events", "Recent events", h("p", { class: "empty" }, "None."));
  const rows = all.map((each) => [
    value(each.created),
    h("span", {}, each.type),
    h("span", {}, chip(each.state, STATES[each.state] || "calm"), " ", each.outcome || each.reason || ""),
    h("code", {}, each.eventId),
  ]);
  return section("events", "Recent events", table("Recent events", ["Created", "Type", "State", "Event"], rows));
}

function audit(all) {
  if (!all.length) return section("audit", "Audit log", h("p", { class: "empty" }, "Nobody has done anything yet."));
  const rows = all.map((each) => [
    value(each.at),
    h("span", {}, each.actor),
    h("span", {}, `${each.action}, ${each.phase} `, chip(each.outcome, STATES[each.outcome] || "calm")),
    h("span", {}, planChange(each), each.error || each.note || ""),
  ]);
  return section("audit", "Audit log", table("Audit log", ["When", "Who", "What", "Why, and what came of it"], rows));
}

function planChange({ before, after }) {
  if (!after?.plan || before?.plan === after.plan) return null;
  return `plan ${before?.plan || "none"} to ${after.plan}. `;
}
