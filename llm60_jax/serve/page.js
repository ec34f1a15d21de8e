// The page of tools/serve.py: its three parts by the #hash of the address.

import { $, Poll, ask, trouble } from "./common.js";
import { startInside, insideModels } from "./inside.js";
import { showWatch, startWatch } from "./watch.js";
import { startWrite, writeModels } from "./write.js";

const PARTS = ["write", "watch", "inside"];
const LIST_SECONDS = 15; // between two questions for the models; a run that trains has new ones
let part = PARTS[0]; // the one that is shown
let offered = ""; // the models of the answer before
const list = new Poll(models, () => part !== "watch", LIST_SECONDS);

function show() {
  const hash = location.hash.slice(1);
  if (hash === "main") return;
  part = PARTS.includes(hash) ? hash : PARTS[0];
  for (const name of PARTS) $(name).hidden = name !== part;
  for (const link of document.querySelectorAll("header nav a")) {
    if (link.hash === `#${part}`) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  trouble("");
  showWatch(part === "watch");
  list.now();
}

async function models() {
  const { data } = await (await ask("/v1/models")).json();
  const key = JSON.stringify(data);
  if (key === offered) return;
  offered = key;
  writeModels(data);
  insideModels(data);
}

startWrite();
startWatch();
startInside();
addEventListener("hashchange", show);
show();
