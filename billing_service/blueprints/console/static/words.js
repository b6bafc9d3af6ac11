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

const WITHOUT_MINOR = new Set(
  ["bif", "clp", "djf", "gnf", "jpy", "kmf", "krw", "mga", "pyg", "rwf", "vnd", "vuv", "xaf", "xof", "xpf"],
);
const WITH_THREE = new Set(["bhd", "jod", "kwd", "omr", "tnd"]);

const RANK = ["info", "low", "medium", "high", "critical"];
const MOMENT = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d/;
const DAY = new Intl.DateTimeFormat("en-GB", { dateStyle: "medium", timeZone: "UTC" });
const LOCAL = new Intl.DateTimeFormat("en-GB", {
  day: "numeric",
  month: "short",
  year: "numeric",
  hour: "2-digit",
  minute: "2-digit",
  timeZoneName: "short",
});
const RELATIVE = new Intl.RelativeTimeFormat("en", { numeric: "auto" });
const UNITS = [["year", 31_536_000], ["month", 2_592_000], ["day", 86_400], ["hour", 3600], ["minute", 60], ["second", 1]];
const NUMBER = new Intl.NumberFormat("en");
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

/** The same time where the reader is: `22 Nov 2026, 15:03 CET` */
export function localMoment(value) {
  return LOCAL.format(new Date(value));
}

// How far the service's clock is ahead of the reader's, in milliseconds; a minute may be the way of an answer.
let ahead = 0;
const TOLERATED = 60_000;

/** What the service's clock says: ages are told by it, because the reader's may be wrong. */
export function clockSays(text) {
  const difference = Date.parse(text) - Date.now();
  if (!Number.isNaN(difference)) ahead = Math.abs(difference) > TOLERATED ? difference : 0;
}

/** `3 minutes ago`, `in 2 days` */
export function ago(value, now = Date.now() + ahead) {
  const seconds = Math.round((new Date(value) - now) / 1000);
  const [unit, size] = UNITS.find(([, each]) => Math.abs(seconds) >= each) || UNITS.at(-1);
  return RELATIVE.format(Math.trunc(seconds / size), unit);
}

/** How long something took or has lasted, in one unit: `4 minutes` */
export function lasting(seconds) {
  const [unit, size] = UNITS.find(([, each]) => Math.abs(seconds) >= each) || UNITS.at(-1);
  return count(Math.trunc(seconds / size), unit);
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

/** An amount in minor units, as people write it. */
export function money(minor, currency) {
  if (minor === null || minor === undefined) return "none";
  // Of which currency is never guessed.
  if (!currency) return `${minor} (minor units of an unknown currency)`;
  const digits = decimals(currency);
  const code = currency.toUpperCase();
  const places = { minimumFractionDigits: digits, maximumFractionDigits: digits };
  try {
    return new Intl.NumberFormat("en", { style: "currency", currency: code, ...places }).format(minor / 10 ** digits);
  } catch {
    return `${minor} ${currency} (minor units)`;
  }
}

/** How many digits after the point Stripe's amounts have: for some currencies others than the standard says. */
export function decimals(currency) {
  const code = currency.toLowerCase();
  return WITHOUT_MINOR.has(code) ? 0 : WITH_THREE.has(code) ? 3 : 2;
}

/** Minor units as one types them: 2500 is "25.00". */
export function inMajor(minor, currency) {
  const digits = decimals(currency);
  const text = String(minor).padStart(digits + 1, "0");
  return digits ? `${text.slice(0, -digits)}.${text.slice(-digits)}` : text;
}

/** What one typed in minor units; digits are moved, nothing is calculated, so nothing is rounded. */
export function inMinor(typed, currency) {
  const [whole, fraction = ""] = typed.trim().split(".");
  return Number(whole + fraction.padEnd(decimals(currency), "0"));
}

/** What a subscription costs: `2 × $79.00 a month` */
export function price({ unitAmount, currency, quantity, interval }) {
  const times = quantity > 1 ? `${quantity} × ` : "";
  return `${times}${money(unitAmount, currency)}${interval ? ` a ${interval}` : ""}`;
}

/** `10,000` */
export function grouped(content) {
  return NUMBER.format(content);
}

/** `1 event`, `3,000 events` */
export function count(content, noun) {
  return `${grouped(content)} ${noun}${content === 1 ? "" : "s"}`;
}
