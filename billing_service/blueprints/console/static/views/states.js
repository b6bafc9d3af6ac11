// What states, reasons and sources are called, and which tone each has. No elements but chips are made here.

import { chip } from "../pieces.js";
import { label } from "../words.js";

export const BASE = "/api/admin/billing";

const TONES = {
  received: "info",
  processing: "info",
  queued: "info",
  running: "info",
  waiting: "warn",
  cancelling: "warn",
  interrupted: "warn",
  succeeded: "good",
  completed: "good",
  applied: "good",
  resolved: "good",
  failed: "bad",
  dead: "bad",
  stopped: "bad",
  partly_failed: "warn",
  rejected: "bad",
  unknown: "warn",
  open: "warn",
  accepted: "info",
  pending: "info",
  asked: "info",
};

/** A state as a chip; `failed` of an event is no end, so its tone may be given. */
export function stateChip(state, tone = null) {
  return chip(label(state || "none"), tone || TONES[state] || "calm");
}

/** An event's state; one that failed is tried again. */
export function eventChip({ state }) {
  return stateChip(state, state === "failed" ? "warn" : null);
}

export const EVENT_STATES = [
  ["received", "Received"],
  ["processing", "Processing"],
  ["failed", "Failed, will be tried again"],
  ["succeeded", "Succeeded"],
  ["dead", "Dead"],
  ["closed", "Closed"],
];

export const SOURCES = [
  ["delivery", "Delivered by Stripe"],
  ["missed", "Found at Stripe afterwards"],
  ["replay", "Taken in by a replay"],
];

const TRIGGERS = { schedule: "The calendar", api: "An admin", cli: "The command line" };

/** Who began a reconciliation. */
export function triggerWords({ trigger }) {
  return TRIGGERS[trigger] || label(trigger);
}

// Why an event is dead, and what can be done: as docs/runbooks/dead-letters.md has it.
const REASONS = {
  handler_failed: [
    "Its handler failed each time",
    "Read the error. Once its cause is gone, replay. If the object is gone at Stripe, sync the customer and close this.",
  ],
  organization_unknown: [
    "Nobody knows whose it is",
    "Put organizationId into the customer's metadata at Stripe, or link the subscription: then it is handled by itself.",
  ],
  organization_conflict: [
    "Two organizations are named",
    "Correct the metadata at Stripe, then replay. The finding of the same name tells which two.",
  ],
  customer_shared: [
    "The customer belongs to another organization",
    "Correct the metadata at Stripe, then replay. The finding of the same name tells which two.",
  ],
  wrong_mode: [
    "It is of the other mode, live or test",
    "The endpoint at Stripe sends to the wrong installation: correct it there, then close. No replay can help.",
  ],
  wrong_account: [
    "It is of another Stripe account",
    "The endpoint at Stripe sends to the wrong installation: correct it there, then close. No replay can help.",
  ],
  pack_unknown: [
    "The plan file does not have the pack",
    "Extras were paid for. Add the pack to the file of BILLING_PLANS, restart the workers, replay: the organization gets its units.",
  ],
  pack_mismatch: [
    "What was paid is not what one pack costs",
    "If the plan file is wrong: correct it, restart the workers, replay. Otherwise refund it at Stripe, then close.",
  ],
  topup_missing: [
    "Extras went back that were never credited here",
    "Handle their checkout.session.completed first, which may be a dead letter itself; this one follows by itself.",
  ],
  currency_mismatch: [
    "It is in another currency than its charge",
    "Nobody can say how many units that is. Ask Stripe, then close.",
  ],
  extras_unsupported: ["An earlier version had no ledger of extras", "Replay it, the oldest first; a replay of many does so by itself."],
  outage: ["Stripe or the database was away for three days", "Replay it, now that they are back."],
  lease_losses: ["Ten workers died while they had it", "Look at the workers' logs before anything else."],
};

export const REASON_OPTIONS = Object.entries(REASONS).map(([name, [words]]) => [name, words]);
// What no replay can help.
export const UNFIT = ["wrong_mode", "wrong_account"];

export function reasonWords(reason) {
  return REASONS[reason]?.[0] || label(reason || "unknown");
}

export function reasonAdvice(reason) {
  return REASONS[reason]?.[1] || null;
}
