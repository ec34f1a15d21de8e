// The page of tools/serve.py: its three parts by the #hash of the address.

import { $, Refused, ask, trouble } from "./common.js";
import { startInside, insideModels } from "./inside.js";
import { showWatch, startWatch } from "./watch.js";
import { startWrite, writeModels } from "./write.js";

const PARTS = ["write", "watch", "inside"];
let later = 0; // the timer of the next question for the models

function show() {
  const hash = location.hash.slice(1);
  if (hash === "main") return;
  const part = PARTS.includes(hash) ? hash : PARTS[0];
  for (const name of PARTS) $(name).hidden = name !== part;
  for (const link of document.querySelectorAll("header nav a")) {
    if (link.hash === `#${part}`) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  trouble("");
  showWatch(part === "watch");
  if (part !== "watch") models();
}

/** Ask for the models until the server answers; a run that trains has new ones. */
async function models() {
  clearTimeout(later);
  try {
    const { data } = await (await ask("/v1/models")).json();
    writeModels(data);
    insideModels(data);
    trouble("");
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
    trouble(error.message);
    later = setTimeout(models, 5000);
  }
}

startWrite();
startWatch();
startInside();
addEventListener("hashchange", show);
show();
