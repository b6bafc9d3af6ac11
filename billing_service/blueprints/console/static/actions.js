// The three actions: each is previewed by a dry run, and can be confirmed only as it was previewed.

import { Problem, call, freshKey } from "./api.js";
import { byId, fill, h } from "./dom.js";
import { trouble, value } from "./pieces.js";
import { COMPARED, camel, count, label, plain } from "./words.js";

const BASE = "/api/admin/billing";
const ENDED = ["canceled", "incomplete_expired"];

const ACTIONS = {
  sync: {
    title: "Sync from Stripe",
    explanation: "Our row is brought to what Stripe shows. Nothing changes at Stripe.",
    confirm: "Sync",
    inputs: () => [],
    body: () => ({}),
  },
  link: {
    title: "Link a subscription",
    explanation: "A subscription at Stripe becomes this organization's, then the row is synced. Nothing changes at Stripe.",
    confirm: "Link",
    inputs: linkInputs,
    body: (form) => ({ stripeSubscriptionId: form.stripeSubscriptionId.value.trim() }),
  },
  cancel: {
    title: "Cancel the subscription",
    explanation: "It is cancelled at Stripe, looked at until that is seen there, and only then written here.",
    confirm: "Cancel the subscription",
    danger: true,
    inputs: cancelInputs,
    body: cancelBody,
  },
};

/** Open the dialog of an action for the organization that is `seen`; `changed` is called after it took effect. */
export function openAction(name, seen, changed) {
  const action = ACTIONS[name];
  const dialog = byId("action-dialog");
  const outcome = h("div", { class: "outcome", "aria-live": "polite" });
  const preview = h("button", { type: "submit", class: "quiet" }, "Preview");
  const confirm = h("button", { type: "button", class: action.danger ? "danger" : "", disabled: true }, action.confirm);
  const close = h("button", { type: "button", class: "quiet", onclick: () => dialog.close() }, "Close");
  const form = h(
    "form",
    { class: "action" },
    h("h2", { id: "action-title" }, action.title),
    h("p", {}, h("strong", {}, seen.organization.name || seen.organization.id), ". ", action.explanation),
    action.inputs(seen),
    outcome,
    h("label", { for: "note" }, "Note: why? It is kept in the audit log."),
    h("textarea", { id: "note", name: "note", rows: "2", maxlength: "1000" }),
    h("div", { class: "buttons" }, close, preview, confirm),
  );
  const task = { path: `${BASE}/${name}/${seen.organization.id}`, action, form, outcome, preview, confirm, changed };
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    foretell(task);
  });
  form.addEventListener("input", (event) => {
    if (event.target.name !== "note") forget(task);
  });
  confirm.addEventListener("click", () => carryOut(task));
  fill(dialog, form);
  dialog.showModal();
  if (form.checkValidity()) foretell(task);
}

/** What was previewed is not what is typed any more. */
function forget(task) {
  task.previewed = null;
  task.confirm.disabled = true;
  fill(task.outcome);
}

async function foretell(task) {
  const body = task.action.body(task.form);
  forget(task);
  await busy(task, "Asking what would change …", async () => {
    const answer = await call("POST", `${task.path}?dryRun=true`, { body });
    task.previewed = { body, key: freshKey() };
    fill(task.outcome, foretold(answer, body));
  });
}

async function carryOut(task) {
  const { body, key } = task.previewed;
  const note = task.form.note.value.trim();
  await busy(task, "Working …", async () => {
    const answer = await call("POST", task.path, { body: note ? { ...body, note } : body, key });
    task.previewed = null;
    task.preview.hidden = task.confirm.hidden = true;
    task.form.note.disabled = true;
    fill(task.outcome, done(answer));
    task.changed();
  });
}

async function busy(task, words, work) {
  const { form, outcome, preview, confirm } = task;
  form.setAttribute("aria-busy", "true");
  preview.disabled = confirm.disabled = true;
  const before = [...outcome.childNodes];
  fill(outcome, h("p", { class: "hint" }, words));
  try {
    await work();
  } catch (error) {
    const problem = error instanceof Problem ? error.document : { title: "The console failed", detail: String(error) };
    fill(outcome, before, trouble(problem));
    // Such an answer is the key's for good; after any other the same key is safe and right.
    if (task.previewed && problem.status < 500 && problem.status !== 429) task.previewed.key = freshKey();
  } finally {
    form.removeAttribute("aria-busy");
    preview.disabled = false;
    confirm.disabled = !task.previewed;
  }
}

function foretold(answer, body) {
  const changes = changesOf(answer);
  const at = answer.stripeSubscriptionId && h("p", {}, "At Stripe: ", value(answer.stripeSubscriptionId), ` ${fate(body)}.`);
  if (!changes.length) return h("div", { class: "foretold" }, at, h("p", {}, "Nothing would change in our row."));
  return h("div", { class: "foretold" }, at, h("p", {}, `This will change ${inWords(changes)}.`), listed(changes));
}

function fate(body) {
  return body.mode === "period_end" ? "will end with its period" : "will be cancelled at once";
}

function done(answer) {
  const changes = changesOf(answer);
  const words = changes.length ? `Done: changed ${inWords(changes)}.` : "Done: nothing had to change.";
  return h("div", { class: "foretold done" }, h("p", {}, words), changes.length > 0 && listed(changes));
}

/** What changes, in the order of the page. */
function changesOf({ previous, updated, changed }) {
  const place = (name) => (COMPARED.includes(name) ? COMPARED.indexOf(name) : COMPARED.length);
  const names = changed.map(camel).sort((one, other) => place(one) - place(other));
  return names.map((name) => ({ name, from: previous?.[name], to: updated?.[name] }));
}

/** The plan first: it is what the customer notices. */
function inWords(changes) {
  const telling = changes.filter((each) => ["plan", "status"].includes(each.name));
  const words = telling.map(({ name, from, to }) => `${name} ${plain(from)} to ${plain(to)}`).sort();
  const others = changes.length - telling.length;
  if (others) words.push(count(others, words.length ? "other field" : "field"));
  return words.join(words.length > 2 ? ", " : " and ");
}

function listed(changes) {
  return h(
    "ul",
    { class: "changes" },
    changes.map(({ name, from, to }) =>
      h("li", {}, h("span", {}, label(name)), value(from), h("span", { class: "arrow" }, "to"), value(to)),
    ),
  );
}

function linkInputs(seen) {
  const known = (seen.live?.subscriptions || []).map((each) => h("option", { value: each.id }, each.status));
  return [
    h("label", { for: "subscription" }, "Subscription id at Stripe"),
    h("input", {
      id: "subscription",
      name: "stripeSubscriptionId",
      required: true,
      pattern: "\\s*sub_[A-Za-z0-9_]+\\s*",
      title: "sub_ and letters or digits",
      placeholder: "sub_…",
      autocomplete: "off",
      spellcheck: "false",
      list: "known",
    }),
    h("datalist", { id: "known" }, known),
  ];
}

function cancelInputs(seen) {
  const left = (seen.live?.subscriptions || []).filter((each) => !ENDED.includes(each.status));
  const option = (each) => h("option", { value: each.id }, `${each.id} (${each.status}, ${each.plan || "no plan"})`);
  return [
    left.length > 1 && [
      h("label", { for: "subscription" }, "Which one? More than one is live."),
      h("select", { id: "subscription", name: "stripeSubscriptionId", required: true }, h("option", { value: "" }, "Choose one"), left.map(option)),
    ],
    h(
      "fieldset",
      {},
      h("legend", {}, "When"),
      choice("radio", "mode", "now", "At once", true),
      choice("radio", "mode", "period_end", "At the end of the period"),
    ),
    h(
      "fieldset",
      {},
      h("legend", {}, "Money, when cancelled at once"),
      choice("checkbox", "prorate", "true", "Credit the unused time"),
      choice("checkbox", "invoiceNow", "true", "Invoice what is open now"),
    ),
  ];
}

function choice(type, name, content, words, checked = false) {
  return h("label", { class: "choice" }, h("input", { type, name, value: content, checked }), words);
}

function cancelBody(form) {
  const named = form.elements.stripeSubscriptionId?.value;
  return {
    mode: form.elements.mode.value,
    prorate: form.elements.prorate.checked,
    invoiceNow: form.elements.invoiceNow.checked,
    ...(named ? { stripeSubscriptionId: named } : {}),
  };
}
