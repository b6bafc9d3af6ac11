// Signing in: the dialog opens by itself when a call is refused with 401, above whatever is being typed, and the call
// goes on once somebody signed in. By e-mail and password the service sets cookies; a pasted token stays in this tab.

import { Problem, onUnauthorized, send } from "./api.js";
import * as credentials from "./credentials.js";
import { byId, fill } from "./dom.js";
import { trouble } from "./pieces.js";
import * as session from "./session.js";
import { moment } from "./words.js";

let answerAll = null;
let asked = null;
// To the other tabs of this browser, which share its cookies.
const tabs = new BroadcastChannel("billing-console-signed-out");

/** `changed` is called when somebody signed in or out by the buttons of the page. */
export function start(changed) {
  byId("password-form").addEventListener("submit", submitted(byPassword));
  byId("token-form").addEventListener("submit", submitted(byToken));
  byId("use-token").addEventListener("click", () => choose("token"));
  byId("use-password").addEventListener("click", () => choose("password"));
  for (const button of document.querySelectorAll(".not-now")) button.addEventListener("click", () => answer(false));
  byId("sign-in-dialog").addEventListener("cancel", (event) => {
    event.preventDefault();
    answer(false);
  });
  byId("sign-in").addEventListener("click", async () => {
    if (await ask("")) changed();
  });
  byId("sign-out").addEventListener("click", () => leave(changed));
  for (const name of ["focus", "pageshow"]) window.addEventListener(name, () => lookAgain(changed));
  tabs.addEventListener("message", () => credentials.pasted() || signedOut(changed));
  onUnauthorized(ask);
  session.onChange(show);
  show(null);
}

/** Resolves to whether somebody signed in; several calls that wait get the same answer. */
function ask(why) {
  byId("sign-in-why").textContent = why;
  if (!asked) {
    asked = new Promise((resolve) => {
      answerAll = resolve;
    });
    choose(credentials.pasted() ? "token" : "password");
    byId("sign-in-dialog").showModal();
    (credentials.pasted() ? byId("token") : byId("email")).focus();
  }
  return asked;
}

function answer(given) {
  byId("sign-in-dialog").close();
  for (const form of [byId("password-form"), byId("token-form")]) form.reset();
  fill(byId("sign-in-trouble"));
  const answered = answerAll;
  answerAll = asked = null;
  answered?.(given);
}

function choose(how) {
  byId("password-form").hidden = how !== "password";
  byId("token-form").hidden = how !== "token";
  fill(byId("sign-in-trouble"));
  byId(how === "token" ? "token" : "email").focus();
}

function submitted(signIn) {
  return async (event) => {
    event.preventDefault();
    const form = event.target;
    const button = form.querySelector('[type="submit"]');
    button.disabled = true;
    fill(byId("sign-in-trouble"));
    try {
      await signIn(form);
      await session.verify();
      answer(true);
    } catch (error) {
      credentials.forgetPasted();
      refused(error, form);
    } finally {
      button.disabled = false;
    }
  };
}

async function byPassword(form) {
  const body = { email: form.email.value.trim(), password: form.password.value, cookies: true };
  credentials.forgetPasted();
  const answered = await send("POST", "/api/auth/login", { body });
  if (answered.ok) return;
  const problem = await answered.json().catch(() => ({ title: `The service answered ${answered.status}` }));
  const wait = answered.headers.get("Retry-After");
  throw new Problem(wait ? { ...problem, detail: `${problem.detail} Try again in ${wait} seconds.` } : problem);
}

async function byToken(form) {
  credentials.paste(form.token.value);
}

function refused(error, form) {
  const problem = error instanceof Problem ? error.document : { title: "The console failed", detail: String(error) };
  byId("sign-in-why").textContent = "";
  if (problem.code === "login_not_available") choose("token");
  fill(byId("sign-in-trouble"), trouble(problem));
  if (form === byId("password-form")) form.password.value = "";
  (form.password || form.token).focus();
}

async function leave(changed) {
  const shared = !credentials.pasted();
  try {
    await session.signOut();
  } catch (error) {
    byId("said").textContent = `You are still signed in: ${error.message}. Try again.`;
    return;
  }
  if (shared) tabs.postMessage("signed out");
  changed();
}

/** In another tab: nothing of theirs stays on the page, and nothing that waits goes on when somebody else signs in. */
function signedOut(changed) {
  if (asked) answer(false);
  session.forget();
  byId("action-dialog").close();
  changed();
}

/** Another tab may have signed in. As somebody else: nobody is to act here in their name. */
async function lookAgain(changed) {
  if (asked && !session.who() && credentials.present()) return session.verify().then(() => answer(true), () => {});
  if (asked || !session.isOutdated()) return;
  const before = session.who().actor;
  await session.verify().catch(() => {});
  if (session.who()?.actor === before) return;
  byId("action-dialog").close();
  changed();
}

function show(known) {
  const who = byId("who");
  who.textContent = known ? `${known.user?.email || known.actor} (${known.roles.join(", ") || "no role"})` : "Not signed in";
  who.title = known?.expiresAt ? `until ${moment(known.expiresAt)}` : "";
  byId("mode").hidden = !known;
  byId("mode").textContent = known?.livemode ? "live mode" : "test mode";
  byId("mode").className = `chip ${known?.livemode ? "bad" : "calm"}`;
  byId("search").hidden = !session.can("customer:read") || !known;
  byId("sign-in").hidden = Boolean(known);
  byId("sign-out").hidden = !known;
}
