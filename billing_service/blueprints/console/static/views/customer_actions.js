// What can be done for a customer: the buttons, why not for the rest, and the dialogs behind them.

import { call } from "../api.js";
import { choice, field, openAction, selection } from "../confirming.js";
import { h } from "../dom.js";
import { value } from "../pieces.js";
import { changesOf, changesTold, told } from "./changes.js";

const BASE = "/api/admin/billing";
const ENDED = ["canceled", "incomplete_expired"];

const WORDS = {
  sync: "Sync from Stripe",
  link: "Link a subscription",
  cancel: "Cancel a subscription",
  bump: "Set the plan by hand",
  lift: "Lift the plan set by hand",
  refund: "Refund a payment",
};
// What is under each payment has its button there.
const BUTTONS = ["sync", "link", "cancel", "bump", "lift"];

/** The actions of the organization that is `seen`; `changed` is called after one took effect. */
export function actionsOf(seen, { can }, changed) {
  const offered = new Map(listed(seen).map((each) => [each.name, each]));
  const repair = /Repair: POST \/api\/admin\/billing\/(\w+)\/[0-9a-f]{24}/.exec(seen.explanation)?.[1];
  const dialogs = { sync, link, cancel, bump, lift };
  const open = (name) => openAction({ ...dialogs[name](seen), about: nameOf(seen), changed });
  return {
    can,
    changed,
    allows: (name) => Boolean(offered.get(name)?.allowed),
    inWords: (text) => text.replace(/Repair: POST \/api\/admin\/billing\/(\w+)\/[0-9a-f]{24}/g, (_, name) => `Repair: ${inWords(name)}`),
    buttons: () => BUTTONS.filter((name) => offered.has(name)).map((name) => button(offered.get(name), name === repair, open)),
    reasons: () => reasons([...offered.values()]),
  };
}

function inWords(name) {
  return (WORDS[name] || name).toLowerCase().replace("stripe", "Stripe");
}

export function nameOf({ organization }) {
  return h("strong", {}, organization.name || organization.id);
}

function listed({ actions, stored }) {
  const bump = actions.find(({ name }) => name === "bump");
  return stored?.override && bump ? [...actions, { ...bump, name: "lift" }] : actions;
}

function button({ name, allowed }, first, open) {
  const attributes = { type: "button", id: `act-${name}`, class: first && allowed ? "" : "quiet", disabled: !allowed };
  return h("button", { ...attributes, "data-action": name, onclick: () => open(name) }, WORDS[name]);
}

function reasons(actions) {
  const refused = new Map();
  for (const each of actions.filter(({ allowed, reason }) => !allowed && reason)) {
    refused.set(each.reason, [...(refused.get(each.reason) || []), WORDS[each.name] || each.name]);
  }
  if (!refused.size) return null;
  return h("ul", { class: "hint reasons" }, [...refused].map(([why, names]) => h("li", {}, `${names.join(", ")}: ${why}.`)));
}

/* The dialogs; each gives what confirming.js takes */

function sync(seen) {
  return {
    title: WORDS.sync,
    explanation: "Our row is brought to what Stripe shows. Nothing changes at Stripe.",
    confirm: "Sync",
    path: `${BASE}/sync/${seen.organization.id}`,
    foretold: changesTold,
    done: told,
  };
}

function link(seen) {
  const known = (seen.live?.subscriptions || []).map((each) => h("option", { value: each.id }, each.status));
  return {
    title: WORDS.link,
    explanation: "A subscription at Stripe becomes this organization's, then the row is synced. Nothing changes at Stripe.",
    path: `${BASE}/link/${seen.organization.id}`,
    inputs: [
      field("Subscription id at Stripe", {
        id: "subscription",
        required: true,
        pattern: "\\s*sub_[A-Za-z0-9_]+\\s*",
        title: "sub_ and letters or digits",
        placeholder: "sub_…",
        list: "known",
      }),
      h("datalist", { id: "known" }, known),
    ],
    body: (form) => ({ stripeSubscriptionId: form.elements.subscription.value.trim() }),
    confirm: (answer, body) => (body ? `Link ${body.stripeSubscriptionId}` : "Link"),
    foretold: changesTold,
    done: told,
  };
}

function cancel(seen) {
  const left = (seen.live?.subscriptions || []).filter((each) => !ENDED.includes(each.status));
  const words = (each) => `${each.id}: ${each.plan || "no plan"}, ${each.status}`;
  const money = h(
    "fieldset",
    {},
    h("legend", {}, "Money, when cancelled at once"),
    choice("checkbox", "prorate", "true", "Credit the unused time"),
    choice("checkbox", "invoiceNow", "true", "Invoice what is open now"),
  );
  return {
    title: WORDS.cancel,
    explanation: "It is cancelled at Stripe, looked at until that is seen there, and only then written here.",
    danger: true,
    path: `${BASE}/cancel/${seen.organization.id}`,
    inputs: [
      left.length > 1 &&
        selection("Which one? More than one is live.", "subscription", [["", "Choose one"], ...left.map((each) => [each.id, words(each)])]),
      h(
        "fieldset",
        { onchange: ({ target }) => (money.disabled = target.value !== "now") },
        h("legend", {}, "When"),
        choice("radio", "mode", "now", "At once", true),
        choice("radio", "mode", "period_end", "At the end of the period"),
      ),
      money,
    ],
    body: cancelBody,
    // By its id: meanwhile another one may have become the only live one.
    request: (body, { stripeSubscriptionId: id }) => (id ? { ...body, stripeSubscriptionId: id } : body),
    confirm: (answer) => `Cancel ${answer?.stripeSubscriptionId || "the subscription"}`,
    foretold: (answer, body) => [atStripe(answer, body), changesTold(answer)],
    done: (answer, body) => [
      answer.stripeSubscriptionId && h("p", {}, `At Stripe ${answer.stripeSubscriptionId} is ${answer.stripeStatus || "gone"}${body.mode === "period_end" ? " and ends with its period" : ""}; this was seen there.`),
      told(answer),
    ],
  };
}

function cancelBody(form) {
  const { subscription, mode, prorate, invoiceNow } = form.elements;
  const [named, atOnce] = [subscription?.value, mode.value === "now"];
  return {
    mode: mode.value,
    prorate: atOnce && prorate.checked,
    invoiceNow: atOnce && invoiceNow.checked,
    ...(named ? { stripeSubscriptionId: named } : {}),
  };
}

function atStripe(answer, body) {
  if (!answer.stripeSubscriptionId) return h("p", {}, "Nothing at Stripe is left to cancel.");
  const target = value(answer.stripeSubscriptionId);
  if (body.mode === "period_end") return h("p", {}, "At Stripe: ", target, " will end with its period.");
  const credited = `The unused time is ${body.prorate ? "credited" : "not credited"}${body.invoiceNow ? ", and what is open is invoiced now" : ""}.`;
  return [h("p", {}, "At Stripe: ", target, " will be cancelled at once."), h("p", {}, credited)];
}

function bump(seen) {
  const choose = h("select", { id: "plan", name: "plan", required: true }, h("option", { value: "" }, "Loading the plans …"));
  call("GET", `${BASE}/plans`)
    .then(({ items }) => choose.replaceChildren(h("option", { value: "" }, "Choose one"), ...items.map((each) => h("option", { value: each.id }, `${each.name} (${each.id})`))))
    .catch(() => choose.replaceChildren(h("option", { value: "" }, "The plans could not be loaded: close, and try again")));
  return {
    title: WORDS.bump,
    explanation: "The plan holds whatever Stripe says, until it is lifted or ends by itself. Nothing changes at Stripe: the customer pays as before.",
    method: "PATCH",
    path: `${BASE}/plans/bump`,
    inputs: [
      h("div", { class: "field" }, h("label", { for: "plan" }, "Plan"), choose),
      field("Until", { id: "until", type: "datetime-local" }, "Your local time. Empty: until somebody lifts it."),
    ],
    body: (form) => {
      const until = form.elements.until.value;
      return { orgId: seen.organization.id, planId: form.elements.plan.value, ...(until ? { until: new Date(until).toISOString() } : {}) };
    },
    confirm: (answer, body) => (body ? `Set the plan ${body.planId}` : "Set the plan"),
    foretold: changesTold,
    done: told,
  };
}

function lift(seen) {
  return {
    title: WORDS.lift,
    explanation: `The plan ${seen.stored.override.plan} set by hand ends now; what Stripe's price says decides again.`,
    method: "PATCH",
    path: `${BASE}/plans/bump`,
    body: () => ({ orgId: seen.organization.id, planId: null }),
    confirm: "Lift it",
    foretold: changesTold,
    done: told,
  };
}

export { changesOf };
