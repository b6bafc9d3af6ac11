// Refunds: those nobody knows of first, all that were asked for, and what is left of an organization's charges.

import { call } from "../api.js";
import { openAction } from "../confirming.js";
import { fill, h } from "../dom.js";
import { heading, moments, ourId, part, scrolled, section, table, value } from "../pieces.js";
import { address, show as again } from "../router.js";
import { listing } from "../tables.js";
import { label, money } from "../words.js";
import { organization } from "./cells.js";
import { chargesOf } from "./charges.js";
import { csvButton, setOf } from "./downloads.js";
import { BASE, stateChip } from "./states.js";

const STATES = ["unknown", "pending", "accepted", "succeeded", "failed", "rejected"];
const FILTERS = [
  { name: "state", label: "State", options: STATES.map((each) => [each, label(each)]) },
  { name: "chargeId", label: "Charge", type: "text" },
  { name: "actor", label: "Who", type: "text" },
  { name: "refundRequestId", label: "Refund request id", type: "text" },
  { name: "from", label: "Asked for from", type: "moment" },
  { name: "to", label: "Until", type: "moment" },
];
const NAMES = ["orgId", ...FILTERS.map(({ name }) => name)];
const MOST_UNKNOWN = 100;

export const view = { name: "refunds", title: "Refunds", needs: "audit:read", show };

async function show(container, context) {
  const { query, signal, go, say, can } = context;
  const [unknown, left, results] = [h("div", {}), h("div", {}), h("div", {})];
  fill(
    container,
    heading("Refunds", h("p", { class: "hint" }, "Each refund is asked for once: the same id is always the same refund.")),
    unknown,
    can("customer:read") && section("left", "One organization: what is left of its charges", left),
    section("requests", query.get("orgId") ? "Refunds asked for, of this organization" : "Refunds asked for", results),
  );
  await Promise.all([
    part(unknown, () => call("GET", `${BASE}/refunds`, { query: { state: "unknown", limit: MOST_UNKNOWN }, signal }), (found) => unknownDrawn(found, context)),
    can("customer:read") && chargesOf(left, context),
    listing(results, {
      path: `${BASE}/refunds`,
      always: setOf(query, ["orgId"]),
      query,
      signal,
      go,
      caption: "Refunds asked for",
      empty: "Nobody has asked for a refund yet.",
      filters: FILTERS,
      buttons: csvButton({ path: `${BASE}/refunds`, parameters: () => setOf(query, NAMES), name: "refunds", say, signal }),
      columns: COLUMNS,
    }),
  ]);
}

const COLUMNS = [
  { title: "Refund", cell: whose, sort: ({ orgName, orgId }) => orgName || orgId },
  { title: "Asked for", cell: ({ createdAt, actor }) => h("span", { class: "stack" }, moments(createdAt, { brief: true }), h("span", { class: "hint" }, `by ${actor}`)), sort: ({ createdAt }) => createdAt },
  { title: "State", cell: (each) => h("span", { class: "stack" }, h("span", {}, stateChip(each.state)), why(each)), sort: ({ state }) => state },
  { title: "Amount", cell: ({ amount, currency }) => h("strong", {}, money(amount, currency)), sort: ({ amount }) => amount },
  { title: "Charge", cell: ({ chargeId, stripeRefundId }) => h("span", { class: "stack" }, value(chargeId), stripeRefundId && value(stripeRefundId)) },
  { title: "Why", cell: ({ reason, note }) => h("span", { class: "stack" }, reason && h("span", {}, label(reason)), note && h("span", { class: "hint" }, note)), wide: true },
];

/** Whose it is, and the id that it was asked for by. */
function whose({ orgId, orgName, refundRequestId }) {
  const target = address("customer", orgId);
  return h("span", { class: "stack event" }, h("a", { href: target, class: "row brief" }, orgName || orgId), ourId(refundRequestId));
}

function why({ error, failureReason }) {
  const words = failureReason || error;
  return words && h("span", { class: "hint" }, label(words));
}

/** A new id could pay the money out twice: that has to be read before anything else is. */
function unknownDrawn({ items }, context) {
  if (!items.length) return null;
  const rows = items.map((each) => [
    h("span", { class: "stack" }, ourId(each.refundRequestId), each.error && h("span", { class: "hint" }, label(each.error))),
    h("strong", {}, money(each.amount, each.currency)),
    value(each.chargeId),
    h("span", { class: "stack" }, moments(each.createdAt), h("span", { class: "hint" }, `by ${each.actor}`)),
    organization(each),
    context.can("refund:create") ? h("button", { type: "button", class: "quiet", onclick: () => repeat(each), "aria-label": `Repeat ${each.refundRequestId}` }, "Repeat this id") : h("span", {}, "Ask somebody who may refund to repeat it."),
  ]);
  return h(
    "section",
    { class: "verdict warn", "aria-labelledby": "unknown" },
    h("h2", { id: "unknown" }, items.length === 1 ? "Nobody knows yet of one refund" : `Nobody knows yet of ${items.length} refunds`),
    h("p", {}, h("strong", {}, "Repeat this id, take no new one."), " A new one could pay the money out twice. They are looked after each minute; after twenty hours they are only looked at, and a finding asks a person."),
    scrolled("Refunds nobody knows of", table("Refunds nobody knows of", ["Refund request id", "Amount", "Charge", "Asked for", "Organization", "What to do"], rows)),
  );
}

function repeat(request) {
  const { chargeId, amountCents, reason } = request.asked;
  const same = { chargeId, refundRequestId: request.refundRequestId };
  if (amountCents !== null) same.amountCents = amountCents;
  if (reason !== null) same.reason = reason;
  openAction({
    title: "Repeat the refund",
    about: [h("strong", {}, money(request.amount, request.currency)), " of ", h("code", {}, request.chargeId)],
    explanation: "The same request is sent with the same key, so that Stripe carries it out once at most.",
    path: `${BASE}/refund`,
    body: () => same,
    confirm: `Repeat ${request.refundRequestId}`,
    foretold: ({ state }) => h("p", {}, state === "unknown" || state === "pending" ? `Stripe will be asked again for the refund ${request.refundRequestId}.` : `It is known by now: ${label(state).toLowerCase()}. Nothing would be sent.`),
    done: ({ state, detail }) => h("p", {}, detail || `It is known now: ${label(state).toLowerCase()}.`),
    again: ({ state }) => state === "unknown",
    changed: again,
  });
}
