// Every page: local times, the account menu, and for people signed in the bell.

import { formatMoment } from "./dom.js";
import { startInbox } from "./inbox.js";

for (const node of document.querySelectorAll(".notes time, .lately time")) {
  node.textContent = formatMoment(new Date(node.dateTime));
}

document.addEventListener("click", (event) => {
  const menu = document.querySelector("details.menu[open]");
  if (menu && !menu.contains(event.target)) menu.open = false;
});
document.addEventListener("keydown", (event) => {
  const menu = document.querySelector("details.menu[open]");
  if (event.key !== "Escape" || !menu) return;
  menu.open = false;
  menu.querySelector("summary").focus();
});

if (document.body.dataset.user) startInbox();
