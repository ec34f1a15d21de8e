// Watch: the runs, one of them as it trains, or several over one another.

import { $, Poll, ask, make } from "./common.js";

const SECONDS = 5; // between two questions about a run
const LIST_SECONDS = 15;
const UNREADABLE = ["unreadable", "no run yet", "preparing"];
let isShown = false;
let chosen = []; // names of runs, in the order in which they were chosen
let hasBegun = false; // whether a run was chosen, by the page or by hand
const tags = new Map(); // by address, of the fragment that is in the page

const run = new Poll(update, () => isShown && chosen.length > 0, SECONDS);
const list = new Poll(listRuns, () => isShown, LIST_SECONDS);

export function startWatch() {
  $("runs").addEventListener("change", (event) => {
    const { value, checked } = event.target;
    hasBegun = true;
    choose(checked ? [...chosen, value] : chosen.filter((name) => name !== value));
  });
}

function choose(names) {
  chosen = names;
  $("now").replaceChildren();
  $("curves").replaceChildren();
  tags.clear();
  $("heard").textContent = chosen.length ? "Asking for the run ..." : "Choose a run.";
  run.now();
}

export function showWatch(shown) {
  isShown = shown;
  list.now();
  run.now();
}

async function listRuns() {
  const runs = await (await ask("/api/runs")).json();
  if (!hasBegun && runs.length) {
    hasBegun = true;
    const readable = runs.find(({ state }) => !UNREADABLE.includes(state));
    chosen = [(runs.find(({ state }) => state === "under way") ?? readable ?? runs[0]).name];
    run.now();
  }
  const there = chosen.filter((name) => runs.some((other) => other.name === name));
  if (there.length < chosen.length) choose(there); // a run was deleted or renamed
  const key = JSON.stringify(runs);
  if (tags.get("runs") === key) return;
  tags.set("runs", key);
  const focused = document.activeElement?.value;
  const labels = runs.map(({ name, state, reason, done }) => {
    const box = make("input", { type: "checkbox", value: name });
    box.checked = chosen.includes(name);
    const share = state === "under way" ? ` ${(100 * done).toFixed(0)} %` : "";
    return make("label", { title: reason }, box, make("span", {}, name), make("small", {}, state + share));
  });
  $("runs").replaceChildren($("runs").querySelector("legend"), make("div", { class: "row" }, ...labels));
  [...$("runs").querySelectorAll("input")].find((box) => box.value === focused && focused)?.focus();
}

async function update() {
  const names = chosen;
  const query = new URLSearchParams(names.map((name) => ["run", name])); // takes any name, half characters too
  if (names.length === 1) {
    await replace(`/api/runs/now?${query}`, $("now"), names);
    await replace(`/api/runs/sections?${query}`, $("curves"), names);
  } else {
    await replace(`/api/runs/compared?${query}`, $("curves"), names);
  }
  if (names !== chosen) return;
  $("heard").textContent = `as of ${new Date().toLocaleTimeString()}; the page asks every ${SECONDS} seconds`;
}

/** Put the server's fragment into its place, if it changed. It is escaped by the server's templates. */
async function replace(address, place, names) {
  const headers = tags.has(address) ? { "If-None-Match": tags.get(address) } : {};
  const response = await ask(address, { headers });
  if (response.status === 304) return;
  const fragment = await response.text();
  if (names !== chosen) return; // others were chosen meanwhile
  tags.set(address, response.headers.get("ETag"));
  const fresh = document.createElement("template");
  fresh.innerHTML = fragment;
  renew(place, fresh.content);
}

/** Replace the children that changed, so that open texts and the place on the screen stay. */
function renew(place, fresh) {
  const before = [...place.children];
  const after = [...fresh.children];
  const isAlike = before.length === after.length && before.every((old, i) => old.id === after[i].id && old.tagName === after[i].tagName);
  if (!isAlike) {
    place.replaceChildren(...after);
    return;
  }
  for (const [number, old] of before.entries()) {
    if (old.isEqualNode(after[number])) continue;
    keepOpen(old, after[number]);
    old.replaceWith(after[number]);
  }
}

/** Open in the new section what is open in the old one. */
function keepOpen(old, fresh) {
  const name = (details) => details.querySelector("summary")?.textContent;
  const were = new Map([...old.querySelectorAll("details")].map((details) => [name(details), details.open]));
  for (const details of fresh.querySelectorAll("details")) {
    if (were.has(name(details))) details.open = were.get(name(details));
  }
}
