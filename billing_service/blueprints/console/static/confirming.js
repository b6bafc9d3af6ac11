// The dialog of an action: it is previewed by a dry run, can be confirmed only as it was previewed, and says in words
// what came of it. What was sent and not answered can only be sent again as it was.

import { Problem, call, freshKey } from "./api.js";
import { byId, fill, h } from "./dom.js";
import { trouble } from "./pieces.js";
import * as router from "./router.js";
import * as session from "./session.js";

/**
 * Open the dialog of an action.
 *
 * title, explanation      what it does, in words; `about` names what it is done to
 * method ("POST"), path   the endpoint
 * inputs                  nodes of the form; `body(form)` reads them as the body of the dry run
 * dryRun (true)           false: nothing is asked before, `foretold` is told null
 * request(body, answer)   the body that is sent for real, if it is another than the dry run's
 * noteIn ("body")         where the note goes: "body", "query" (then `body` is not sent), or null: there is none
 * confirm                 the words of the button, or (answer, body) => words: they name the thing
 * danger                  the button warns
 * typed(answer)           what has to be typed before it can be confirmed, such as a number; null: nothing
 * nothing(answer)         nodes: why there is nothing to confirm; falsy where there is
 * foretold(answer, body)  nodes: what would change; false instead: there is nothing to confirm
 * done(answer, body)      nodes: what has changed
 * again(answer)           whether the same may be sent once more, because its outcome is not known yet
 * changed(answer)         called after it took effect; draws anew what the page shows, and may take its time
 */
export function openAction(action) {
  const dialog = byId("action-dialog");
  // Pressed twice: the first one is open, and may be at work.
  if (dialog.open) return;
  const task = { action, previewed: null, settled: false, uncertain: false, opener: document.activeElement, ...parts(action, dialog) };
  task.form.addEventListener("submit", (event) => {
    event.preventDefault();
    foretell(task);
  });
  task.form.addEventListener("input", (event) => {
    if (event.target.name !== "note") forget(task);
  });
  task.confirm.addEventListener("click", () => carryOut(task));
  // Of the key, too: a browser lets nobody hold up a second `cancel` in a row.
  dialog.oncancel = dialog.onkeydown = (event) => {
    if (isBusy(task) && (event.type === "cancel" || event.key === "Escape")) event.preventDefault();
  };
  // Who goes back or elsewhere has left it; what was sent and not answered stays until it is closed.
  const leave = () => task.uncertain || isBusy(task) || dialog.close();
  window.addEventListener("hashchange", leave);
  dialog.onclose = () => {
    window.removeEventListener("hashchange", leave);
    closed(task);
  };
  fill(dialog, task.form);
  dialog.showModal();
  if (task.form.checkValidity()) foretell(task);
}

function parts(action, dialog) {
  const outcome = h("div", { class: "outcome", "aria-live": "polite" });
  const preview = h("button", { type: "submit", class: "quiet" }, "Preview");
  const confirm = h("button", { type: "button", class: action.danger ? "danger" : "", disabled: true }, wordsOf(action));
  const close = h("button", { type: "button", class: "quiet", onclick: () => dialog.close() }, "Close");
  const inputs = h("fieldset", { class: "inputs" }, action.inputs);
  const form = h(
    "form",
    { class: "action" },
    h("h2", { id: "action-title" }, action.title),
    action.about && h("p", { class: "about" }, action.about),
    action.explanation && h("p", { class: "hint" }, action.explanation),
    action.inputs && inputs,
    action.noteIn === null ? null : noteField(),
    outcome,
    h("div", { class: "buttons" }, close, preview, confirm),
  );
  return { form, inputs, outcome, preview, confirm, close };
}

function noteField() {
  const required = Boolean(session.who()?.requiresNote);
  return h(
    "div",
    { class: "field" },
    h("label", { for: "note" }, "Note: why? It is kept in the audit log."),
    h("textarea", { id: "note", name: "note", rows: "2", maxlength: "1000", "aria-required": required }),
  );
}

function wordsOf({ confirm, title }, answer = null, body = null) {
  return typeof confirm === "function" ? confirm(answer, body) || title : confirm || title;
}

/** What was previewed, or is being previewed, is not what is typed any more. */
function forget(task) {
  task.previewed = null;
  task.asked = null;
  task.confirm.disabled = true;
  fill(task.outcome);
}

async function foretell(task) {
  const { action } = task;
  if (task.settled) return;
  const body = action.body?.(task.form) ?? {};
  forget(task);
  const mine = (task.asked = {});
  await busy(task, "Asking what would change …", async () => {
    const query = { dryRun: "true" };
    const answer = action.dryRun === false ? null : await call(methodOf(task), action.path, { query, body: sent(task, body) });
    // Something else was typed while this was asked: it must neither be shown nor be confirmed.
    if (mine !== task.asked) return;
    const refused = action.nothing?.(answer);
    const words = !refused && action.foretold?.(answer, body);
    task.previewed = words === false ? null : { body: action.request ? action.request(body, answer) : body, key: freshKey() };
    task.confirm.textContent = wordsOf(action, answer, body);
    fill(task.outcome, h("div", { class: "foretold" }, refused || words || "Nothing would change."), task.previewed && typedField(task, action.typed?.(answer)));
  });
}

/** Where it has to be typed what is meant: it is no input of the form, so what was previewed stays. */
function typedField(task, wanted) {
  task.typed = null;
  if (!wanted) return null;
  const input = h("input", { id: "typed", name: "typed", autocomplete: "off", inputmode: /^\d+$/.test(wanted) ? "numeric" : null, "aria-required": true });
  task.typed = { wanted, input };
  input.addEventListener("input", (event) => {
    event.stopPropagation();
    task.confirm.disabled = !isTyped(task);
  });
  // Enter means this, and not another preview.
  input.addEventListener("keydown", (event) => {
    if (event.key !== "Enter") return;
    event.preventDefault();
    if (isTyped(task)) carryOut(task);
  });
  return h("div", { class: "field" }, h("label", { for: "typed" }, `Type ${wanted} to confirm`), input);
}

function isTyped({ typed }) {
  return !typed || typed.input.value.trim() === typed.wanted;
}

async function carryOut(task) {
  const { action } = task;
  if (isBusy(task) || !task.previewed || !isTyped(task)) return;
  const { body, key } = task.previewed;
  const note = task.form.elements.note?.value.trim();
  if (!note && session.who()?.requiresNote && action.noteIn !== null) return askForNote(task);
  const query = note && action.noteIn === "query" ? { note } : {};
  const whole = note && action.noteIn !== "query" ? { ...body, note } : body;
  freeze(task, true);
  task.uncertain = true;
  await busy(task, "Working …", async () => {
    const answer = await call(methodOf(task), action.path, { query, body: sent(task, whole), key });
    settle(task, answer, body);
  });
}

function methodOf({ action }) {
  return action.method || "POST";
}

function sent({ action }, body) {
  return action.noteIn === "query" ? undefined : body;
}

function askForNote(task) {
  fill(task.outcome, [...task.outcome.childNodes], h("p", { class: "bad", role: "alert" }, "A note is required: say why."));
  task.form.elements.note.focus();
}

function settle(task, answer, body) {
  const { action } = task;
  const again = Boolean(action.again?.(answer));
  task.uncertain = false;
  task.settled = !again;
  if (again) task.previewed.key = freshKey();
  else task.previewed = null;
  task.preview.hidden = true;
  task.confirm.hidden = !again;
  fill(task.outcome, h("div", { class: `foretold ${again ? "open" : "done"}` }, action.done?.(answer, body) || "Done."));
  task.close.focus();
  // It took effect, whether the page can show it now or not.
  Promise.resolve(action.changed?.(answer)).catch((error) => {
    if (error.name !== "AbortError") byId("said").textContent = `What is shown could not be looked at again: ${error.message}`;
  });
}

/** While it is not known whether it took effect, nothing else may be sent from here. */
function freeze(task, frozen) {
  task.inputs.disabled = frozen;
  task.preview.hidden = frozen;
  if (task.form.elements.note) task.form.elements.note.readOnly = frozen;
}

function isBusy({ form }) {
  return form.hasAttribute("aria-busy");
}

async function busy(task, words, work) {
  const { form, outcome, preview, confirm, close, asked } = task;
  form.setAttribute("aria-busy", "true");
  preview.disabled = confirm.disabled = close.disabled = true;
  const before = [...outcome.children].filter((each) => !each.matches(".trouble"));
  fill(outcome, before, h("p", { class: "hint" }, words));
  try {
    await work();
  } catch (error) {
    if (asked !== task.asked) return;
    const problem = error instanceof Problem ? error.document : { title: "The console failed", detail: String(error) };
    fill(outcome, before, trouble(problem));
    refused(task, problem);
  } finally {
    form.removeAttribute("aria-busy");
    preview.disabled = close.disabled = false;
    confirm.disabled = !task.previewed || !isTyped(task);
  }
}

// What was sent before by the same key, or for the same refund, is still at work: its outcome is what is not known.
const AT_WORK = "idempotency_in_progress";

/** Such an answer is the key's for good, and nothing was done; after any other the same key is safe and right. */
function refused(task, { status, code }) {
  const certain = status < 500 && status !== 429 && code !== AT_WORK;
  if (certain || !task.previewed) freeze(task, false);
  if (!certain) return;
  task.uncertain = false;
  if (task.previewed) task.previewed.key = freshKey();
}

async function closed(task) {
  giveFocusBack(task.opener);
  if (!task.uncertain) return;
  await router.show();
  router.say("Whether it took effect is not known. What is shown was looked at again.");
}

/** To where the dialog was opened from; what was there may have been drawn anew since. */
function giveFocusBack(opener) {
  const target = opener?.isConnected ? opener : opener?.id && byId(opener.id);
  const usable = target && !target.disabled ? target : byId("view").querySelector("h1[tabindex]");
  usable?.focus({ preventScroll: true });
}

/* Inputs that several actions have */

/** A text with its label; `attributes` are the input's. */
export function field(label, attributes, hint = null) {
  const { id } = attributes;
  const described = hint ? { "aria-describedby": `${id}-hint` } : {};
  return h(
    "div",
    { class: "field" },
    h("label", { for: id }, label),
    h("input", { name: id, autocomplete: "off", spellcheck: "false", ...described, ...attributes }),
    hint && h("p", { class: "hint", id: `${id}-hint` }, hint),
  );
}

/** One of several: `options` are [value, words], the first one may be ["", "Choose …"]. */
export function selection(label, id, options, chosen = null) {
  return h(
    "div",
    { class: "field" },
    h("label", { for: id }, label),
    h("select", { id, name: id, required: true }, options.map(([value, words]) => h("option", { value, selected: value === chosen }, words))),
  );
}

/** A box or a button to choose; `type` is "radio" or "checkbox". */
export function choice(type, name, content, words, checked = false) {
  return h("label", { class: "choice" }, h("input", { type, name, value: content, checked }), h("span", {}, words));
}
