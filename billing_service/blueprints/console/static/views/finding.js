// One finding: what it means, both sides, why, what repairs it, and taking note of it until a time.

import { call } from "../api.js";
import { field, openAction } from "../confirming.js";
import { fill, h } from "../dom.js";
import { chip, facts, heading, moments, ourId, section, value } from "../pieces.js";
import { address, show as again } from "../router.js";
import { count, label, moment, plain } from "../words.js";
import { organization } from "./cells.js";
import { atRisk } from "./finding_columns.js";
import { causeTold, kindTold } from "./kinds.js";
import { BASE, stateChip } from "./states.js";

const WEEK = 7;
const REPAIRS = { sync: "Sync the customer", cancel: "Cancel a subscription" };

/** Fill the container with the finding that the address names. */
export async function showFinding(container, context) {
  const finding = await call("GET", `${BASE}/findings/${encodeURIComponent(context.id)}`, { signal: context.signal });
  const told = kindTold(finding.kind);
  fill(
    container,
    heading(told.title, h("p", { class: "hint line" }, chip(finding.severity, finding.severity), stateChip(finding.state), whose(finding))),
    verdict(finding, told, context),
    h(
      "div",
      { class: "halves even" },
      section("sides", "Stored here and at Stripe", sides(finding)),
      h("div", {}, section("cause", "Why", cause(finding, context)), section("known", "What is known", known(finding))),
    ),
  );
}

/** A finding is somebody's: the name is what people look for. */
function whose({ orgId, orgName }) {
  return orgName && h("a", { href: address("customer", orgId) }, orgName);
}

function verdict(finding, told, context) {
  const tone = finding.state === "resolved" ? "good" : finding.severity;
  const explanation = finding.live?.explanation || told.meaning;
  return h(
    "section",
    { class: `verdict ${tone}`, "aria-labelledby": "means" },
    h("h2", { id: "means" }, finding.state === "resolved" ? `Resolved by ${label(finding.resolvedBy || "somebody").toLowerCase()}` : "What it means"),
    explanation && h("p", {}, plain(explanation)),
    h("p", { class: "risk" }, "At risk each month: ", atRisk(finding.moneyAtRisk)),
    finding.state !== "resolved" && told.repair && h("p", {}, h("strong", {}, "Repair: "), told.repair),
    h("div", { class: "buttons" }, buttons(finding, told, context)),
  );
}

function buttons(finding, told, { can }) {
  const open = finding.state !== "resolved";
  const repair = open && REPAIRS[told.action];
  return [
    finding.orgId && h("a", { class: repair ? "button" : "button quiet", id: "repair", href: address("customer", finding.orgId) }, repair || "Show the customer"),
    open && can("finding:acknowledge") && h("button", { type: "button", id: "acknowledge", class: "quiet", onclick: () => acknowledge(finding) }, finding.state === "acknowledged" ? "Acknowledge anew" : "Acknowledge until …"),
  ];
}

function sides({ stored, live }) {
  const names = [...new Set([...Object.keys(stored || {}), ...Object.keys(live || {})])].filter((name) => name !== "explanation");
  if (!names.length) return h("p", { class: "empty" }, "Nothing more is stored of it.");
  return h(
    "table",
    { class: "compared" },
    h("caption", { class: "unseen" }, "What differed when it was seen last"),
    h("thead", {}, h("tr", {}, ["Field", "Stored here", "At Stripe"].map((name) => h("th", { scope: "col" }, name)))),
    h(
      "tbody",
      {},
      names.map((name) =>
        h("tr", {}, h("th", { scope: "row" }, label(name)), h("td", { "data-label": "Stored here" }, side(stored, name)), h("td", { "data-label": "At Stripe" }, side(live, name))),
      ),
    ),
  );
}

function side(all, name) {
  return all && name in all ? value(all[name]) : h("span", { class: "none" }, "not compared");
}

function cause(finding, { can }) {
  const { title, shown, mend } = causeTold(finding.cause);
  return [
    h("p", {}, h("strong", {}, title), shown && `: ${shown}`),
    mend && h("p", { class: "hint" }, mend),
    h("p", { class: "links" }, causeLinks(finding, can)),
  ];
}

function causeLinks({ cause: name, orgId, firstSeenAt }, can) {
  if (!orgId) return null;
  const link = (words, target, permission) => can(permission) && h("a", { href: target }, words);
  if (name === "dead_letter") return link("Its dead letters", address("deadletters", null, { orgId }), "deadletter:read");
  if (name === "overwritten_by_admin") return link("What admins did to it", address("audit", null, { orgId, to: firstSeenAt }), "audit:read");
  return link("Its events", address("events", null, { orgId }), "deadletter:read");
}

function known(finding) {
  return facts([
    ["Organization", organization(finding)],
    ["Customer", value(finding.stripeCustomerId)],
    ["Subscriptions", finding.stripeSubscriptionIds.length ? h("span", { class: "stack" }, finding.stripeSubscriptionIds.map(value)) : value(null)],
    ["First seen", moments(finding.firstSeenAt)],
    ["Last seen", moments(finding.lastSeenAt)],
    ["Seen", count(finding.timesSeen, "time")],
    ["Last seen by", finding.reconciliationId ? h("a", { href: address("reconciliation", finding.reconciliationId) }, "a reconciliation") : "a webhook"],
    ...acknowledged(finding),
    ["Finding", ourId(finding.id)],
    ...(finding.resolvedAt ? [["Resolved", moments(finding.resolvedAt)]] : []),
  ]);
}

function acknowledged(finding) {
  if (!finding.acknowledgedAt) return [];
  return [
    ["Acknowledged by", finding.acknowledgedBy],
    ["Acknowledged until", moments(finding.acknowledgedUntil)],
    ["Why", value(finding.acknowledgedNote)],
  ];
}

function acknowledge(finding) {
  const proposed = new Date(Date.now() + WEEK * 86_400_000 - new Date().getTimezoneOffset() * 60_000);
  openAction({
    title: "Acknowledge until a time",
    about: h("strong", {}, kindTold(finding.kind).title),
    explanation: "It is quiet until then, unless it changes. Then it is listed as open again. Nothing is repaired by this.",
    path: `${BASE}/findings/${finding.id}/acknowledge`,
    inputs: [field("Until", { id: "until", type: "datetime-local", required: true, value: proposed.toISOString().slice(0, 16) }, "Your local time, a year ahead at most.")],
    body: (form) => ({ until: new Date(form.elements.until.value).toISOString() }),
    confirm: "Acknowledge",
    foretold: ({ changed, finding: { acknowledgedUntil } }) => h("p", {}, changed.length ? `It will be quiet until ${moment(acknowledgedUntil)}.` : "Nothing would change."),
    done: ({ finding: { acknowledgedUntil } }) => h("p", {}, `Acknowledged until ${moment(acknowledgedUntil)}.`),
    changed: again,
  });
}
