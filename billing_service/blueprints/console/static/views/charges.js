// What an organization paid, as Stripe shows it, and what is left of each charge to refund.

import { Problem, call } from "../api.js";
import { fill, h } from "../dom.js";
import { chip, moments, part, scrolled, table, value } from "../pieces.js";
import { address } from "../router.js";
import { label, money } from "../words.js";
import { BASE, stateChip } from "./states.js";

const PAGE = 10;

/** Ask for an organization, and show the charges of the one that the address names. */
export async function chargesOf(container, { query, signal, go }) {
  const orgId = query.get("orgId") || "";
  const shown = h("div", { class: "parts" });
  const form = h(
    "form",
    { class: "together", "aria-label": "Charges of an organization" },
    h("label", { for: "charges-org" }, "Organization id"),
    h("input", { id: "charges-org", name: "orgId", value: orgId, required: true, pattern: "\\s*[0-9a-fA-F]{24}\\s*", title: "24 hexadecimal characters", autocomplete: "off", spellcheck: "false", maxlength: "60" }),
    h("button", { type: "submit", class: "quiet" }, "Show"),
    orgId && h("a", { href: address("refunds") }, "All organizations"),
  );
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    go(address("refunds", null, { orgId: form.elements.orgId.value.trim() }));
  });
  fill(container, form, shown);
  if (orgId) await pageOf(shown, orgId, null, signal);
}

function pageOf(container, orgId, cursor, signal) {
  const load = () => {
    if (!/^[0-9a-f]{24}$/i.test(orgId)) throw new Problem({ title: "That is no organization id", detail: "An organization id has 24 hexadecimal characters." });
    return call("GET", `${BASE}/charges`, { query: { orgId, limit: PAGE, ...(cursor ? { cursor } : {}) }, signal });
  };
  return part(container, load, (page) => drawn(page, orgId, container, signal));
}

function drawn({ items, nextCursor }, orgId, container, signal) {
  if (!items.length) return h("p", { class: "empty" }, "Stripe shows no charge of this organization.");
  const older = h("button", { type: "button", class: "quiet", onclick: () => pageOf(container, orgId, nextCursor, signal) }, "Older ones");
  return [
    scrolled("Charges", table("Charges", ["Charge", "Paid", "Left to refund", "State", "Refunds"], items.map(row))),
    h("div", { class: "buttons" }, h("a", { class: "button quiet", href: address("customer", orgId) }, "Show the customer"), nextCursor && older),
  ];
}

function row(charge) {
  const { amount, amountRefunded, amountRefundable, currency } = charge;
  return [
    h("span", { class: "stack" }, value(charge.id), moments(charge.created, { brief: true })),
    money(amount, currency),
    h("span", { class: "stack" }, h("strong", {}, money(amountRefundable, currency)), amountRefunded > 0 && h("span", { class: "hint" }, `${money(amountRefunded, currency)} refunded`)),
    h("span", { class: "line" }, stateChip(charge.status), charge.disputed && chip("disputed", "bad"), charge.refunded && chip("refunded", "info")),
    refunds(charge),
  ];
}

function refunds({ refunds: all, disputes }) {
  const lines = (all || []).map((each) => h("li", {}, money(each.amount, each.currency), " ", stateChip(each.status), " ", value(each.id)));
  const fights = (disputes || []).map((each) => h("li", {}, `Dispute of ${money(each.amount, each.currency)}: ${label(each.status).toLowerCase()} `, value(each.id)));
  return lines.length || fights.length ? h("ul", { class: "lines" }, lines, fights) : h("span", { class: "none" }, "none");
}
