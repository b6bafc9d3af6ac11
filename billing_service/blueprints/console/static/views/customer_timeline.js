// What happened to a customer, newest first: events, actions of people, findings, refunds, extras, and what others were told.

import { h } from "../dom.js";
import { feed } from "../feeds.js";
import { chip, dotted, moments, section, value } from "../pieces.js";
import { address } from "../router.js";
import { count, label, money, plain } from "../words.js";
import { kindWords } from "./kinds.js";
import { reasonWords } from "./states.js";

const KINDS = [
  ["", "everything"],
  ["event", "events"],
  ["action", "actions"],
  ["finding", "findings"],
  ["finding_resolved", "resolved findings"],
  ["refund", "refunds"],
  ["extras", "prepaid extras"],
  ["signal", "what others were told"],
];
const TONES = { succeeded: "good", dead: "bad", failed: "bad", unknown: "warn", rejected: "bad", received: "calm", accepted: "warn" };

/** The section, and what fills it. The kind that is chosen stands in the address as `kind`. */
export function timeline({ id, query, signal }) {
  const body = h("div", {});
  const options = KINDS.map(([kind, words]) => h("option", { value: kind, selected: kind === (query.get("kind") || "") }, words));
  const chosen = h("select", { id: "timeline-kind", name: "kind" }, options);
  const load = () =>
    feed(body, {
      path: `/api/admin/billing/timeline/${encodeURIComponent(id)}`,
      query: chosen.value ? { kind: chosen.value } : {},
      list: () => h("ol", { class: "timeline" }),
      draw: item,
      empty: chosen.value ? "Nothing of this kind." : "Nothing has happened yet.",
      more: "Show older",
      signal,
    });
  chosen.addEventListener("change", () => {
    // Only this part is to be loaded anew, so the router is not told.
    if (chosen.value) query.set("kind", chosen.value);
    else query.delete("kind");
    history.replaceState(null, "", address("customer", id, query));
    load();
  });
  const choice = h("div", { class: "inline" }, h("label", { for: "timeline-kind" }, "Show"), chosen);
  return { element: section("timeline", "Timeline", choice, body), load };
}

function item(one) {
  const content = one[{ finding_resolved: "finding" }[one.kind] || one.kind];
  const { tone, title, more } = DRAWN[one.kind]?.(content) || { title: label(one.kind), more: [plain(content)] };
  return h(
    "li",
    { class: `happened ${tone || ""}`, "data-kind": one.kind },
    moments(one.at),
    h("div", {}, h("p", { class: "what" }, title), more.filter(Boolean).map((each) => h("p", {}, each))),
  );
}

const DRAWN = {
  event: (it) => ({
    tone: TONES[it.state],
    title: [h("a", { href: address("events", it.eventId) }, dotted(it.type)), " ", chip(it.outcome || it.state, TONES[it.state])],
    more: [
      it.reason && `${reasonWords(it.reason)}.`,
      it.lastError && `${it.lastError.errorClass}: ${it.lastError.message || ""}`,
      it.attempts > 0 && `${count(it.attempts, "attempt")}.`,
      value(it.eventId),
    ],
  }),
  action: (it) => ({
    tone: TONES[it.outcome],
    title: [h("strong", {}, it.actor), ` ${label(it.action).toLowerCase()} `, chip(it.outcome, TONES[it.outcome])],
    more: [it.note && h("q", {}, it.note), it.error, it.requestId && h("span", { class: "hint" }, "request id ", h("code", {}, it.requestId))],
  }),
  finding: (it) => finding(it, "Found: "),
  finding_resolved: (it) => ({ ...finding(it, "Resolved: "), tone: "good" }),
  refund: (it) => ({
    tone: TONES[it.state],
    title: [`Refund of ${money(it.amount, it.currency)} `, chip(it.state, TONES[it.state])],
    more: [["by ", it.actor, " of ", value(it.chargeId)], it.note && h("q", {}, it.note), it.error && label(it.error)],
  }),
  extras: (it) => ({
    tone: it.units < 0 ? "warn" : "good",
    title: [`${MOVED[it.kind] || label(it.kind)}: ${count(Math.abs(it.units), "unit")} of extras`],
    more: [
      it.amount !== null && it.currency && `${money(it.amount, it.currency)}.`,
      it.expiresAt && ["until ", moments(it.expiresAt)],
      it.memo && h("q", {}, it.memo),
      it.ref && h("code", {}, it.ref),
    ],
  }),
  signal: (it) => ({
    tone: "",
    title: [label(it.name.replaceAll(".", " ")), " ", chip(it.sentAt ? "told" : "not told yet", it.sentAt ? "calm" : "warn")],
    more: [toldOf(it.facts), it.lastError],
  }),
};

const MOVED = {
  topup: "Bought",
  debit: "Taken",
  refund: "Taken back with a refund",
  refund_reversed: "Given back, a refund failed",
  expiration: "Expired",
  adjustment: "Given back",
  settlement: "Settled from the week's quota",
};

/** What a signal says in a few words; what it names stands elsewhere in the timeline. */
function toldOf(facts) {
  const brief = Object.entries(facts || {}).filter(([name, content]) => !/_?ids?$/i.test(name) && content !== null && typeof content !== "object");
  return plain(Object.fromEntries(brief));
}

function finding(it, words) {
  const state = it.state === "open" ? chip("open", "warn") : chip(it.state);
  return { tone: it.severity, title: [words, h("a", { href: address("findings", it.id) }, kindWords(it.kind)), " ", chip(it.severity, it.severity), " ", state], more: [it.resolvedBy && `by ${it.resolvedBy}`] };
}
