// The token dialog: opens by itself when a call is refused with 401, above whatever is being typed.

import { holder, onUnauthorized, token } from "./api.js";
import { byId } from "./dom.js";
import { moment } from "./words.js";

let answerAll = null;
let asked = null;

export function start(changed) {
  const dialog = byId("token-dialog");
  const form = byId("token-form");
  const answer = (given) => {
    dialog.close();
    show();
    const answered = answerAll;
    answerAll = asked = null;
    answered?.(given);
  };

  form.addEventListener("submit", (event) => {
    event.preventDefault();
    token.set(form.token.value.replace(/\s+/g, ""));
    form.reset();
    answer(true);
  });
  byId("token-cancel").addEventListener("click", () => answer(false));
  dialog.addEventListener("cancel", (event) => {
    event.preventDefault();
    answer(false);
  });
  byId("sign-in").addEventListener("click", async () => {
    if (await ask("")) changed();
  });
  byId("sign-out").addEventListener("click", () => {
    token.clear();
    show();
    changed();
  });
  onUnauthorized(ask);
  show();
}

/** Resolves to whether a token was given; several calls that wait get the same answer. */
function ask(why) {
  byId("token-why").textContent = why;
  if (!asked) {
    asked = new Promise((resolve) => {
      answerAll = resolve;
    });
    byId("token-dialog").showModal();
  }
  return asked;
}

function show() {
  const claims = holder();
  const who = byId("who");
  if (!token.get()) who.textContent = "Not signed in";
  else if (!claims) who.textContent = "Signed in";
  else {
    const roles = Array.isArray(claims.billing_roles) ? claims.billing_roles.join(", ") : "";
    who.textContent = `${claims.sub || "somebody"}${roles ? ` (${roles})` : ""}`;
    who.title = claims.exp ? `until ${moment(claims.exp * 1000)}` : "";
  }
  byId("sign-in").hidden = Boolean(token.get());
  byId("sign-out").hidden = !token.get();
}
