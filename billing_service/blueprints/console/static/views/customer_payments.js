// What a customer paid, what was given back, and giving back: refunds, and the credit of a dispute that was won.

import { call, freshKey } from "../api.js";
import { field, openAction, selection } from "../confirming.js";
import { byId, fill, h } from "../dom.js";
import { feed } from "../feeds.js";
import { chip, moments, section, stripeLink, troubleOf, value } from "../pieces.js";
import * as session from "../session.js";
import { count, decimals, grouped, inMajor, inMinor, label, money } from "../words.js";
import { nameOf } from "./customer_actions.js";

const BASE = "/api/admin/billing";
const REASONS = [["requested_by_customer", "Requested by the customer"], ["duplicate", "Paid twice"], ["fraudulent", "Fraudulent"]];
const TONES = { succeeded: "good", pending: "warn", failed: "bad", requires_action: "warn", canceled: "calm", won: "good", lost: "bad" };

/** The section of payments, and what fills it. */
export function payments({ signal }) {
  const body = h("div", {});
  const load = (seen, act) => {
    if (!seen.live) return fill(body, h("p", { class: "empty" }, "Stripe did not answer."));
    return feed(body, {
      path: `${BASE}/charges`,
      query: { orgId: seen.organization.id, limit: "10" },
      list: () => h("ul", { class: "charges" }),
      draw: (charge) => drawn(charge, seen, act),
      empty: "No payments.",
      more: "Show older payments",
      signal,
    });
  };
  return { element: section("payments", "Payments", body), load };
}

function drawn(charge, seen, act) {
  const won = (charge.disputes || []).filter(({ status }) => status === "won");
  return h(
    "li",
    { class: "charge", "data-charge": charge.id },
    h(
      "div",
      { class: "line" },
      h("strong", { class: "amount" }, money(charge.amount, charge.currency)),
      chip(charge.status, TONES[charge.status]),
      charge.disputed && chip("disputed", "bad"),
      moments(charge.created, { brief: true }),
      stripeLink(charge.id),
    ),
    h("p", {}, inWords(charge)),
    given(charge),
    h("div", { class: "buttons" }, refundButton(charge, seen, act), won.length > 0 && creditButton(charge, won, seen, act)),
  );
}

function inWords({ amountRefunded, amountRefundable, currency, failureMessage, status }) {
  if (status === "failed") return failureMessage || "The payment failed.";
  if (!amountRefunded) return "Nothing was refunded.";
  const left = amountRefundable > 0 ? `${money(amountRefundable, currency)} left` : "nothing left";
  return `${money(amountRefunded, currency)} refunded, ${left}.`;
}

function given({ refunds, disputes }) {
  const rows = [
    ...refunds.map((each) => h("li", {}, `Refund of ${money(each.amount, each.currency)} `, chip(each.status, TONES[each.status]), " ", moments(each.created, { brief: true }), " ", stripeLink(each.id), each.failureReason && ` ${label(each.failureReason)}`)),
    ...(disputes || []).map((each) => h("li", {}, `Dispute of ${money(each.amount, each.currency)} `, chip(label(each.status), TONES[each.status] || "warn"), ` ${label(each.reason)} `, stripeLink(each.id))),
  ];
  return rows.length > 0 && h("ul", { class: "given" }, rows);
}

/* Refunds */

function refundButton(charge, seen, act) {
  if (charge.amountRefundable <= 0 || !act.can("refund:create")) return null;
  const words = `Refund ${money(charge.amountRefundable, charge.currency)} or a part`;
  return h("button", { type: "button", class: "quiet", id: `refund-${charge.id}`, onclick: () => openRefund(charge, seen, act) }, words);
}

/** A refund of this charge whose outcome nobody knows comes first: it may only be asked for again, by its own id. */
async function openRefund(charge, seen, act) {
  const line = byId(`refund-${charge.id}`).closest(".charge");
  line.querySelector(".trouble")?.remove();
  try {
    const open = act.can("audit:read") ? await openOf(charge) : null;
    openAction({ ...(open ? repeated(open) : fresh(charge)), about: [nameOf(seen), ", ", value(charge.id)], changed: act.changed });
  } catch (error) {
    // Without that answer a new one could be the second.
    line.append(troubleOf(error));
  }
}

async function openOf(charge) {
  const asked = (state) => call("GET", `${BASE}/refunds`, { query: { chargeId: charge.id, state, limit: "1" } });
  const [unknown, pending] = await Promise.all([asked("unknown"), asked("pending")]);
  return unknown.items[0] || pending.items[0] || null;
}

function fresh(charge) {
  const { currency } = charge;
  const limit = session.who()?.maxRefundAmount;
  const left = `${money(charge.amountRefundable, currency)} of ${money(charge.amount, currency)} are left.`;
  const hint = limit === null || limit === undefined ? left : `${left} Your role may refund up to ${money(limit, currency)} of a charge.`;
  return {
    title: "Refund a payment",
    explanation: "Stripe pays the money back. This cannot be undone.",
    danger: true,
    path: `${BASE}/refund`,
    inputs: [amountField(charge.amountRefundable, currency, hint), selection("Reason", "reason", REASONS, "requested_by_customer")],
    // What is previewed anew is another refund, and has another id.
    body: (form) => ({
      chargeId: charge.id,
      amountCents: inMinor(form.elements.amount.value, currency),
      reason: form.elements.reason.value,
      refundRequestId: freshKey(),
    }),
    confirm: (answer) => (answer ? `Refund ${money(answer.amount, currency)}` : "Refund"),
    foretold: (answer) => [
      h("p", {}, `This will refund ${money(answer.amount, currency)} of ${charge.id}; ${money(answer.amountLeft, currency)} will be left.`),
      answer.disputed && h("p", {}, "The payment is disputed: Stripe may refuse."),
    ],
    done: refunded,
    again: ({ state }) => state === "unknown",
  };
}

function amountField(most, currency, hint) {
  const digits = decimals(currency);
  return field(
    `Amount (${currency.toUpperCase()})`,
    {
      id: "amount",
      required: true,
      inputmode: "decimal",
      pattern: digits ? `\\s*\\d{1,10}(\\.\\d{1,${digits}})?\\s*` : "\\s*\\d{1,12}\\s*",
      title: digits ? `digits, and at most ${digits} after the point` : "whole digits",
      value: inMajor(most, currency),
    },
    hint,
  );
}

function repeated(open) {
  const asked = Object.fromEntries(Object.entries(open.asked).filter(([, content]) => content !== null));
  return {
    title: "Ask again for a refund whose outcome is not known",
    explanation:
      "It was asked for, and Stripe's answer never arrived. Asked for again by the same id it is made once, whatever happened then; a new one could be a second refund.",
    danger: true,
    path: `${BASE}/refund`,
    body: () => ({ ...asked, refundRequestId: open.refundRequestId }),
    dryRun: false,
    confirm: `Ask again for ${money(open.amount, open.currency)}`,
    foretold: () => h("p", {}, `The refund of ${money(open.amount, open.currency)} that ${open.actor} asked for at `, value(open.createdAt), " is asked for again."),
    done: refunded,
    again: ({ state }) => state === "unknown",
  };
}

function refunded(answer) {
  const sum = money(answer.amount, answer.currency);
  if (answer.state === "unknown") return [h("p", {}, `Nobody knows yet whether ${sum} were refunded.`), h("p", {}, answer.detail)];
  return [
    h("p", {}, `Done: ${sum} of ${answer.chargeId} ${answer.state === "succeeded" ? "were refunded" : `are being refunded (${answer.state})`}.`),
    answer.stripeRefundId && h("p", {}, value(answer.stripeRefundId)),
  ];
}

/* Disputes that were won */

function creditButton(charge, won, seen, act) {
  if (!act.can("dispute:credit")) return null;
  return h("button", { type: "button", class: "quiet", id: `credit-${charge.id}`, onclick: () => openAction({ ...credit(charge, won, seen), about: nameOf(seen), changed: act.changed }) }, "Credit the won dispute");
}

function credit(charge, won, seen) {
  const [first] = won;
  const amount = amountField(first.amount, first.currency, "At most what the dispute withdrew.");
  const which = won.length > 1 && selection("Which dispute?", "dispute", won.map((each) => [each.id, `${each.id}: ${money(each.amount, each.currency)}`]));
  if (which) which.addEventListener("change", ({ target }) => (amount.querySelector("input").value = inMajor(won.find(({ id }) => id === target.value).amount, first.currency)));
  return {
    title: "Credit a won dispute",
    explanation: "The extras that the dispute had taken are given back, once for each dispute. Nothing changes at Stripe.",
    path: `${BASE}/dispute/credit/${seen.organization.id}`,
    inputs: [which, amount],
    body: (form) => ({
      chargeId: charge.id,
      amountCents: inMinor(form.elements.amount.value, first.currency),
      refundRequestId: freshKey(),
      ...(won.length > 1 ? { disputeId: form.elements.dispute.value } : {}),
    }),
    request: (body, { disputeId }) => ({ ...body, disputeId }),
    confirm: "Credit the dispute",
    nothing: (answer) => !answer.applied && h("p", {}, "It was credited before: nothing is left to do."),
    foretold: (answer) => h("p", {}, balance("This will change", answer)),
    done: (answer) => h("p", {}, answer.applied ? balance("Done: changed", answer) : "It was credited before; nothing was done."),
  };
}

function balance(words, { previous, updated, disputeId }) {
  return `${words} the extras from ${grouped(previous.units)} to ${count(updated.units, "unit")} for ${disputeId}.`;
}
