// Who is signed in and what they may do, as GET /api/auth/me tells it; the views offer nothing else.

import { Problem, call, send } from "./api.js";
import * as credentials from "./credentials.js";

const listeners = [];
let known = null;
let learnedBy = null;

/** The signed-in person: actor, user, roles, permissions, expiresAt, livemode, requiresNote; null if unknown. */
export const who = () => known;

export function can(permission) {
  return permission === null || Boolean(known?.permissions.includes(permission));
}

/** Whether ids at Stripe are of the live mode. */
export const livemode = () => Boolean(known?.livemode);

/** `listen(known)` is called whenever the person changes; null when nobody is signed in any more. */
export function onChange(listen) {
  listeners.push(listen);
}

/** Ask who is signed in, unless that is known; a dialog asks to sign in where nobody is. Throws Problem. */
export async function know(signal) {
  if (!known) learn(await call("GET", "/api/auth/me", { signal }));
  return known;
}

/** Ask anew, without asking to sign in: right after somebody did. Throws Problem. */
export async function verify() {
  const answer = await send("GET", "/api/auth/me");
  const content = await answer.json().catch(() => ({ title: `The service answered ${answer.status}` }));
  if (!answer.ok) throw new Problem(content);
  learn(content);
}

export async function signOut() {
  await credentials.end();
  forget();
}

/** Nobody is signed in any more. */
export function forget() {
  learn(null);
}

/** Whether the browser has got another sign-in since the person was learned: renewed, or another tab's. */
export function isOutdated() {
  const mark = credentials.mark();
  return known !== null && mark !== null && mark !== learnedBy;
}

function learn(me) {
  known = me;
  learnedBy = me && credentials.mark();
  for (const listen of listeners) listen(known);
}
