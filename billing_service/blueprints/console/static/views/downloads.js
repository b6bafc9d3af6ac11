// A list as a file: what the filter of the address finds, all of it.

import { download } from "../api.js";
import { fill, h } from "../dom.js";
import { troubleOf } from "../pieces.js";

/** A button that saves what `path` lists as CSV. `parameters()` gives the filter; trouble is shown beside it. */
export function csvButton({ path, parameters, name, say, signal }) {
  const outcome = h("div", { class: "beside" });
  const button = h("button", { type: "button", class: "quiet", id: "download" }, "Download CSV");
  const save = async () => {
    button.disabled = true;
    fill(outcome);
    say("The file is being made …");
    try {
      await download(path, { query: { ...parameters(), format: "csv" }, name: `${name}.csv`, signal });
      say("The file was downloaded.");
    } catch (error) {
      if (error.name === "AbortError") return;
      say("");
      fill(outcome, troubleOf(error, save));
    } finally {
      button.disabled = false;
    }
  };
  button.addEventListener("click", save);
  return [button, outcome];
}

/** The parameters of the address with these names, those aside that are not set. */
export function setOf(query, names) {
  return Object.fromEntries(names.map((name) => [name, query.get(name)]).filter(([, value]) => value));
}
