// The words of the page, and how values are written. No elements are made here.

export const VERDICTS = {
  stripe_unavailable: "Stripe did not answer",
  customer_deleted: "The customer was deleted at Stripe",
  missing_in_stripe: "Not to be found at Stripe",
  missing_in_db: "Paid at Stripe, unknown here",
  several_live_subscriptions: "Billed more than once",
  plan_unresolved: "The price stands for no plan",
  diverged: "Stripe and our row differ",
  overridden: "The plan is set by hand",
  not_billed: "Not billed",
  in_sync: "In sync",
};

const CALM = { overridden: "info", not_billed: "calm", in_sync: "good", stripe_unavailable: "unknown" };

const FIELDS = {
  stripeCustomerId: "Customer",
  stripeSubscriptionId: "Subscription",
  stripeCreatedAt: "Created at Stripe",
  stripePlan: "Plan by price",
  plan: "Effective plan",
  priceId: "Price",
  "organization.plan": "Organization's plan",
  currentPeriodStart: "Period start",
  currentPeriodEnd: "Period end",
  cancelAtPeriodEnd: "Ends with the period",
  cancelAt: "Ends at",
  suspendedAt: "Suspended by dunning",
  pastDueSince: "Past due since",
  lastResetAt: "Last weekly reset",
  customerDeletedAt: "Customer deleted at",
  asOf: "Snapshot of",
  verifyAt: "Looked at again at",
  syncedAt: "Written at",
  syncedFrom: "Written by",
};

// Every field that both sides have, or that the plan depends on.
export const COMPARED = [
  "status",
  "plan",
  "organization.plan",
  "stripePlan",
  "priceId",
  "quantity",
  "currentPeriodStart",
  "currentPeriodEnd",
  "cancelAtPeriodEnd",
  "cancelAt",
  "stripeSubscriptionId",
  "stripeCustomerId",
];

const RANK = ["info", "low", "medium", "high", "critical"];
const MOMENT = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d/;
const DAY = new Intl.DateTimeFormat("en-GB", { dateStyle: "medium", timeZone: "UTC" });
const CLOCK = new Intl.DateTimeFormat("en-GB", { timeStyle: "short", timeZone: "UTC" });

/** good, calm, info, unknown, warn or bad. */
export function tone(verdict, differences) {
  if (CALM[verdict]) return CALM[verdict];
  const worst = Math.max(-1, ...differences.map((each) => RANK.indexOf(each.severity)));
  return verdict === "diverged" && worst < RANK.indexOf("high") ? "warn" : "bad";
}

/** The API names fields inside of lists as they are stored (`stripe_plan`) and keys in camelCase. */
export function camel(name) {
  return name.replace(/_([a-z])/g, (_, letter) => letter.toUpperCase());
}

/** A field, a state or a kind in words. */
export function label(name) {
  const key = camel(name);
  return FIELDS[key] || spelled(key);
}

function spelled(key) {
  const words = key.replace(/([A-Z])/g, " $1").replace(/[._]/g, " ").toLowerCase();
  return words.charAt(0).toUpperCase() + words.slice(1);
}

export function isMoment(value) {
  return typeof value === "string" && MOMENT.test(value) && !Number.isNaN(Date.parse(value));
}

/** `22 Nov 2026, 14:03 UTC` */
export function moment(value) {
  const date = new Date(value);
  return `${DAY.format(date)}, ${CLOCK.format(date)} UTC`;
}

export function plain(value) {
  if (value === null || value === undefined || value === "") return "none";
  if (value === true) return "yes";
  if (value === false) return "no";
  if (isMoment(value)) return moment(value);
  if (Array.isArray(value)) return value.length ? value.map(plain).join("; ") : "none";
  if (typeof value === "object") {
    return Object.entries(value)
      .filter(([, each]) => each !== null)
      .map(([key, each]) => `${spelled(key)}: ${plain(each)}`)
      .join(", ");
  }
  return String(value);
}

/** An amount in minor units; currencies differ in how many those are. */
export function money(minor, currency) {
  if (minor === null || minor === undefined) return "none";
  try {
    const format = new Intl.NumberFormat("en", { style: "currency", currency: currency || "usd" });
    return format.format(minor / 10 ** format.resolvedOptions().maximumFractionDigits);
  } catch {
    return `${minor} ${currency}`;
  }
}

/** `1 event`, `3 events` */
export function count(number, noun) {
  return `${number} ${noun}${number === 1 ? "" : "s"}`;
}
