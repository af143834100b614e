// Starts the page: what is served, the two tabs, the choice of a domain.

import { count, find, make, tell } from "./dom.js";
import * as many from "./many.js";
import * as one from "./one.js";
import { info, keepToken } from "./service.js";

const TABS = ["one", "many"];

function choose(chosen) {
  for (const name of TABS) {
    const tab = find(`tab-${name}`);
    tab.ariaSelected = String(name === chosen);
    tab.tabIndex = name === chosen ? 0 : -1;
    find(name).hidden = name !== chosen;
  }
}

function startTabs() {
  TABS.forEach((name, position) => {
    const tab = find(`tab-${name}`);
    tab.addEventListener("click", () => choose(name));
    tab.addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      if (!step) return;
      const next = TABS[(position + step + TABS.length) % TABS.length];
      choose(next);
      find(`tab-${next}`).focus();
    });
  });
}

function describe(served) {
  document.title = `${served.name} · pocketbert`;
  find("name").textContent = served.name;
  const facts = [`version ${served.version}`, `${served.precision} on ${served.device}`, count(served.labels.length, "label")];
  if (served.cascade) facts.push("a teacher for unsure texts");
  find("served").textContent = facts.join(" · ");
  for (const element of document.querySelectorAll(".pair")) element.hidden = !served.pair;
  if (served.pair) find("text-name").textContent = "First text";
  find("domain").parentElement.hidden = !served.domains;
  find("domain").append(...(served.domains ?? []).map((name) => make("option", { selected: name === served.default_domain }, name)));
}

const domain = () => (find("domain").value ? { domain: find("domain").value } : {});

async function open() {
  try {
    const served = await info();
    describe(served);
    startTabs();
    one.start(served, domain);
    many.start(served, domain, () => choose("many"));
    find("domain").addEventListener("change", one.later);
    tell(find("trouble"), null);
    find("token-form").hidden = true;
    document.querySelector("main").hidden = false;
    find("text").focus();
  } catch (error) {
    const asked = error.status === 401;
    tell(find("trouble"), !asked ? error.message : find("token").value ? "The service does not take this token." : null);
    find("token-form").hidden = !asked;
    if (asked) find("token").focus();
  }
}

find("token-form").addEventListener("submit", (event) => {
  event.preventDefault();
  keepToken(find("token").value);
  open();
});
open();
