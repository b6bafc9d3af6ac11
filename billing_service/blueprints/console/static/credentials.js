// What the calls are signed with: a pasted token, which this tab alone keeps, or the cookies of a sign-in, which no
// script reads. Of the cookies only the CSRF values are seen here; every unsafe call sends one back.

const KEPT = "billing-console-token";
const SAFE = ["GET", "HEAD"];

export const pasted = () => sessionStorage.getItem(KEPT);

/** Use a pasted token from now on. */
export function paste(token) {
  sessionStorage.setItem(KEPT, token.replace(/\s+/g, "").replace(/^Bearer/i, ""));
}

export function forgetPasted() {
  sessionStorage.removeItem(KEPT);
}

/** Whether there is anything to call with; whether it is still accepted, the service says. */
export function present() {
  return Boolean(pasted() || cookie("csrf_access_token") || cookie("csrf_refresh_token"));
}

/** Tells one sign-in from the next: another tab may have renewed the cookies in the meantime. */
export function mark() {
  return pasted() || cookie("csrf_access_token");
}

/** The headers that sign a call. */
export function headers(method, csrf = "csrf_access_token") {
  if (pasted()) return { Authorization: `Bearer ${pasted()}` };
  const value = cookie(csrf);
  return value && !SAFE.includes(method) ? { "X-CSRF-TOKEN": value } : {};
}

/**
 * Get the next cookies of the session, silently; whether the call that was sent as `sentAs` is worth another try.
 * A refresh token is good for once, and a second use ends the session: the tabs of a browser take turns.
 */
export async function renew(sentAs) {
  if (pasted()) return mark() !== sentAs;
  if (!cookie("csrf_refresh_token")) return false;
  return navigator.locks ? navigator.locks.request("billing-console-renewal", () => take(sentAs)) : take(sentAs);
}

async function take(sentAs) {
  if (mark() && mark() !== sentAs) return true;
  try {
    const answer = await fetch("/api/auth/refresh", {
      method: "POST",
      headers: headers("POST", "csrf_refresh_token"),
      cache: "no-store",
      credentials: "same-origin",
    });
    return answer.ok;
  } catch {
    return false;
  }
}

/** End the session at the service; a pasted token is only forgotten, others may use it still. */
export async function end() {
  if (pasted()) return forgetPasted();
  const csrf = cookie("csrf_access_token") ? "csrf_access_token" : "csrf_refresh_token";
  if (!cookie(csrf)) return;
  const answer = await fetch("/api/auth/logout", {
    method: "POST",
    headers: headers("POST", csrf),
    cache: "no-store",
    credentials: "same-origin",
  });
  if (!answer.ok && answer.status !== 401) throw new Error(`the service answered ${answer.status}`);
}

function cookie(name) {
  const found = document.cookie.split("; ").find((each) => each.startsWith(`${name}=`));
  return found ? decodeURIComponent(found.slice(name.length + 1)) : null;
}
