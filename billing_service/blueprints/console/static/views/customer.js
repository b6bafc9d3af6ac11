// One customer: the verdict and what to do about it, both truths side by side, what was paid, what happened. Without
// an id: the search for one.

import { call } from "../api.js";
import { fill, h, redraw } from "../dom.js";
import { chip, facts, heading, moments, newestOf, ourId, section, stripeLink, table, value } from "../pieces.js";
import { address } from "../router.js";
import { COMPARED, VERDICTS, count, label, money, price, tone } from "../words.js";
import { actionsOf } from "./customer_actions.js";
import { compared } from "./customer_compared.js";
import { payments } from "./customer_payments.js";
import { timeline } from "./customer_timeline.js";
import { causeTold, kindWords } from "./kinds.js";
import { showSearch } from "./search.js";

export const view = { name: "customer", title: "Customers", needs: "customer:read", show };

async function show(container, context) {
  if (context.id === null) return showSearch(container, context);
  const { id, signal, say } = context;
  fill(container, h("p", { class: "loading" }, "Asking Stripe and the database …"));
  const path = `/api/admin/billing/customer/${encodeURIComponent(id)}`;
  // These load by themselves, and stay where they are when the rest is drawn anew.
  const parts = [payments(context), timeline(context)];
  const draw = (seen) => {
    const act = actionsOf(seen, context, again);
    redraw(container, () => fill(container, ...drawn(seen, act), parts.map(({ element }) => element)));
    document.title = `${nameOf(seen)}: ${inWords(seen)}`;
    for (const each of parts) each.load(seen, act);
  };
  const again = async () => {
    const isNewest = newestOf(container);
    const seen = await call("GET", path, { signal });
    if (!isNewest()) return;
    draw(seen);
    say(`${inWords(seen)}. ${seen.explanation}`);
  };
  const seen = await call("GET", path, { signal });
  draw(seen);
  say(`${nameOf(seen)}: ${inWords(seen)}.`);
}

function nameOf({ organization }) {
  return organization.name || "An organization without a name";
}

function inWords({ verdict: name }) {
  return VERDICTS[name] || label(name);
}

function drawn(seen, act) {
  return [
    head(seen),
    verdict(seen, act),
    findings(seen.openFindings),
    section("compared", "Stored here and at Stripe", compared(seen)),
    h(
      "div",
      { class: "halves" },
      section("here", "More of what is stored", stored(seen)),
      section("there", "More of what Stripe shows", ...live(seen.live)),
    ),
  ];
}

function head(seen) {
  const { organization, stored: row } = seen;
  return heading(
    nameOf(seen),
    h(
      "p",
      { class: "facts-line" },
      chip(organization.plan || "no plan", "info plan"),
      organization.slug && h("span", {}, organization.slug),
      ourId(organization.id),
      row?.stripeCustomerId && stripeLink(row.stripeCustomerId),
    ),
  );
}

/* The verdict */

function verdict(seen, act) {
  return h(
    "section",
    { class: `verdict ${tone(seen.verdict, seen.differences)}`, "aria-labelledby": "verdict" },
    h("h2", { id: "verdict" }, inWords(seen)),
    h("p", {}, act.inWords(seen.explanation)),
    h("div", { class: "buttons" }, act.buttons()),
    act.reasons(),
  );
}

function findings(all) {
  if (!all.length) return null;
  const items = all.map((each) =>
    h(
      "li",
      {},
      h("p", {}, chip(each.severity, each.severity), " ", h("a", { href: address("findings", each.id) }, kindWords(each.kind)), each.state === "acknowledged" && " (acknowledged)"),
      each.cause !== "unknown" && h("p", {}, `${causeTold(each.cause).title}.`),
      each.moneyAtRisk?.length > 0 && h("p", {}, "At risk: ", each.moneyAtRisk.map((sum) => `${money(sum.amount, sum.currency)} a month`).join(", ")),
      h("p", { class: "hint" }, "seen ", count(each.timesSeen, "time"), ", last ", moments(each.lastSeenAt, { brief: true })),
    ),
  );
  return section("findings", "Open findings", h("ul", { class: "cards" }, items));
}

/* What else both sides have */

function stored({ stored: row }) {
  if (!row) return h("p", { class: "empty" }, "There is no row: this organization was never billed.");
  const rest = Object.entries(row).filter(([name]) => !COMPARED.includes(name) && !["orgId", "candidates", "override"].includes(name));
  return facts([
    ["Set by hand", override(row.override)],
    ["Other subscriptions seen", candidates(row.candidates)],
    ...rest.map(([name, content]) => [label(name), value(content)]),
  ]);
}

function override(one) {
  if (!one) return value(null);
  return h("div", {}, chip(one.plan, "info"), " by ", one.actor || "somebody", one.until ? [" until ", value(one.until)] : ", until it is lifted", one.note && h("p", { class: "hint" }, one.note));
}

function candidates(all) {
  if (!all?.length) return value(null);
  return all.map((each) => h("div", {}, value(each.stripeSubscriptionId)));
}

function live(shown) {
  if (!shown) return [h("p", { class: "empty" }, "Stripe did not answer.")];
  return [customer(shown.customer), subscriptions(shown.subscriptions)];
}

function customer(one) {
  if (!one) return h("p", { class: "empty" }, "No customer is known or to be found.");
  if (one.deleted) return facts([["Customer", value(one.id)], ["Deleted", "yes"]]);
  return facts([
    ["Name", value(one.name)],
    ["E-mail", value(one.email)],
    ["Balance", balance(one)],
    ["Owes", one.delinquent ? chip("delinquent", "high") : "nothing overdue"],
  ]);
}

/** At Stripe what is owed to the customer is negative. */
function balance({ balance: minor, currency }) {
  if (!minor) return "nothing";
  return minor < 0 ? `${money(-minor, currency)} of credit` : `owes ${money(minor, currency)}`;
}

function subscriptions(all) {
  if (!all.length) return h("p", { class: "empty" }, "No subscriptions.");
  const rows = all.map((each) => [
    value(each.id),
    chip(each.status, { active: "good", trialing: "good", past_due: "warn" }[each.status] || "calm"),
    h("span", {}, each.plan || "no plan", ` (${price(each)})`),
    value(each.created),
  ]);
  return [h("h3", {}, count(all.length, "subscription")), table("Subscriptions at Stripe", ["Subscription", "Status", "Plan", "Created"], rows)];
}
