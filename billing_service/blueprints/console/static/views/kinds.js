// What each kind and cause of a finding means and what repairs it: as docs/runbooks/divergence.md has it.

import { label } from "../words.js";

const SYNC = "Sync the customer: the row is brought to what Stripe shows.";

// Kind: its name, what it means, what repairs it, and the action of the customer view that does.
const KINDS = {
  missing_in_db: ["Paid at Stripe, not granted here", "Stripe bills a subscription that no row knows.", "Sync the customer. Where no organization is known: find whose it is, then link it.", "sync"],
  canceled_here_live_there: ["Ended here, billed at Stripe", "Our row says that it ended, and Stripe goes on billing.", "Sync if they should have it, otherwise cancel it at Stripe.", "sync"],
  missing_in_stripe: ["Granted here, gone at Stripe", "The row's subscription does not exist at Stripe; its customer proves that.", "Sync: the row becomes canceled, the plan free.", "sync"],
  status: ["The status differs", "Mostly a cancellation or a failed payment that was never heard of here.", SYNC, "sync"],
  several_live_subscriptions: ["Billed more than once", "The customer pays for more than one subscription.", "Cancel the wrong one, then perhaps refund what it cost.", "cancel"],
  organization_conflict: ["Two organizations are named", "The subscription's metadata name another organization than its row.", "Correct metadata.organizationId at Stripe, then sync.", "sync"],
  plan_unresolved: ["The price stands for no plan", "Stripe bills a price that is in no plan of the plan file.", "Add the price to the file that BILLING_PLANS names, restart, then sync.", "sync"],
  plan: ["The plan differs", "Another plan than Stripe's price means, or than the row's own fields come to.", SYNC, "sync"],
  org_plan: ["Access reads another plan", "Access control reads another plan than the row has: somebody else wrote it.", "Sync. Where there is no row: correct the plan where it was changed, or set it by hand.", "sync"],
  price: ["The price differs", "Another price or quantity than at Stripe.", SYNC, "sync"],
  period: ["The period differs", "Another billing period than at Stripe.", SYNC, "sync"],
  cancel_intent: ["A planned end differs", "A cancellation is planned on one side only.", SYNC, "sync"],
  customer: ["The customer differs", "The row names another customer than the subscription at Stripe.", SYNC, "sync"],
  overridden: ["The plan is set by hand", "An admin's override decides the plan; both sides agree otherwise.", "Nothing has to be done. Lifting it ends it.", null],
  customer_shared: ["Two organizations share a customer", "The customer at Stripe is attached to another organization already.", "Correct metadata.organizationId at Stripe, then sync.", "sync"],
  plan_ambiguous: ["The prices stand for two plans", "The subscription has items of several plans; the higher one counts.", "Take the wrong item off the subscription at Stripe, then sync.", "sync"],
  cancel_unverified: ["Nobody has seen the cancellation", "It was asked for, and Stripe has not shown it for a day.", "Look at Stripe, then cancel again or sync.", "cancel"],
  refund_unresolved: ["Nobody knows of a refund", "Stripe has not said for twenty hours whether it was made.", "Look at the charge at Stripe. Never ask with a new id before that is known.", null],
  usage_extras: ["The extras do not add up", "The balance is not the sum of its entries.", "Tell the developers: nothing here repairs it.", null],
};

// Cause: its name, what shows it, what mends it.
const CAUSES = {
  dead_letter: ["Its event is a dead letter", "An event of the subscription, newer than the row, is dead.", "Replay it: a sync repairs the row, not the event."],
  handler_missing: ["Nothing handles its event", "An event told of it, and no handler takes its type.", "A handler has to be written. Until then a sync repairs it."],
  overwritten_by_admin: ["An admin wrote it", "An admin's action wrote the stored value after Stripe's newest event.", "Ask them why, then sync."],
  never_received: ["Its event never arrived", "Stripe lists an event that told of it, and the ledger lacks it.", "Check the webhook endpoint at Stripe. Missed events are looked for each hour."],
  unknown: ["Not known", "None of the causes that can be shown was found.", "Somebody may have written to the database, or the event is older than Stripe's list."],
};

export const KIND_OPTIONS = Object.entries(KINDS).map(([name, [words]]) => [name, words]);
export const SEVERITIES = ["critical", "high", "medium", "low", "info"];

export function kindWords(kind) {
  return KINDS[kind]?.[0] || label(kind);
}

export function kindTold(kind) {
  const [title, meaning, repair, action] = KINDS[kind] || [label(kind), null, null, null];
  return { title, meaning, repair, action };
}

export function causeTold(cause) {
  const [title, shown, mend] = CAUSES[cause] || [label(cause), null, null];
  return { title, shown, mend };
}
