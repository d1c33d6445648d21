// One room's page: ties its socket to the timeline, the composer and the people.

import { Composer } from "./composer.js";
import { watch } from "./connection.js";
import { avatar, element } from "./dom.js";
import { Outbox } from "./outbox.js";
import { Socket } from "./socket.js";
import { Sync } from "./sync.js";
import { Timeline } from "./timeline.js";

const TYPING_SHOWN_MS = 4500;
const READ_MS = 2000;
const room = document.getElementById("room").dataset;
const me = document.body.dataset.user ?? "";

// Without scripts this page shows the history before a position; with them it scrolls.
if (new URLSearchParams(location.search).has("before")) location.replace(location.pathname);

const viewport = document.getElementById("timeline");
const timeline = new Timeline({
  viewport,
  list: document.getElementById("messages"),
  me,
  isOwner: room.isOwner === "yes",
  canPost: room.canPost === "yes",
});
const socket = new Socket(`/ws/rooms/${room.slug}/`, { probe: whyRefused });
const outbox = new Outbox({ key: `outbox-${me}-${room.slug}`, socket, timeline });
const sync = new Sync({
  version: Number(room.version),
  apply: applyChange,
  resume: (version) => socket.send("resume", { version }),
  reset: reloadMessages,
});

const handlers = {
  welcome(frame) {
    sync.remote(frame.version, { now: true });
    showPeople(frame);
    outbox.flush();
    reportRead();
  },
  pong(frame) { sync.remote(frame.version, { now: false }); showPeople(frame); },
  message(frame) { sync.change(frame.message); },
  changes(frame) { sync.changes(frame); },
  accepted(frame) { outbox.confirm(frame.nonce); },
  presence: showPeople,
  typing: showTyping,
  error(frame) { if (!outbox.refuse(frame)) composer?.report(frame.detail); },
};
socket.addEventListener("frame", ({ detail }) => handlers[detail.type]?.(detail));
socket.addEventListener("state", ({ detail }) => {
  if (detail === "ended") endComposer();
  if (detail === "reconnecting" || detail === "offline") outbox.wait();
});
watch(socket);

const form = document.querySelector("form.composer");
const composer = form && new Composer({
  form,
  room,
  people: knownPeople,
  onSend: (text, files) => outbox.add(text, files),
  onTyping: () => socket.send("typing"),
});

// --- messages

function applyChange(message) {
  const wasAtBottom = timeline.isAtBottom();
  outbox.confirm(message.nonce);
  const isNew = timeline.put(message, { hasOlder: Boolean(document.getElementById("older")) });
  if (wasAtBottom) timeline.scrollToBottom();
  else if (isNew) toBottom.hidden = false;
  if (isNew) stopTyping(message.author);
  reportRead();
}

async function reloadMessages() {
  const answer = await fetch(room.historyUrl);
  if (!answer.ok) return;
  const { messages, version, more } = await answer.json();
  sync.version = version;
  timeline.replaceAll(messages);
  if (!more) document.getElementById("older")?.remove();
  reportRead();
}

async function whyRefused() {
  const answer = await fetch(room.historyUrl);
  return answer.status === 404 ? "access-lost" : null;
}

const toBottom = document.getElementById("to-bottom");
toBottom.addEventListener("click", () => timeline.scrollToBottom());
viewport.addEventListener("scroll", () => {
  if (!timeline.isAtBottom()) return;
  toBottom.hidden = true;
  reportRead();
});
document.addEventListener("visibilitychange", () => reportRead());

let reported = Number(room.readPosition || -1);
let readTimer = null;
function reportRead() {
  const position = timeline.newestPosition();
  if (readTimer || !me || document.hidden || position <= reported || !timeline.isAtBottom()) return;
  if (!socket.send("read", { position })) return;
  reported = position;
  // In a lively room each message would be a frame of every reader.
  readTimer = setTimeout(reportReadNow, READ_MS);
}

function reportReadNow() {
  clearTimeout(readTimer);
  readTimer = null;
  reportRead();
}
addEventListener("pagehide", reportReadNow);

// --- older messages, when the top comes into view

let loading = false;
async function loadOlder(link) {
  if (loading) return;
  loading = true;
  link.textContent = "Loading…";
  try {
    const answer = await fetch(`${room.historyUrl}?before=${timeline.oldest().dataset.position}`);
    if (!answer.ok) throw new Error(answer.statusText);
    const { messages, more } = await answer.json();
    if (!more) {
      observer.disconnect();
      link.replaceWith(element("span", { className: "start", textContent: "This is where the conversation starts." }));
    }
    timeline.prepend(messages);
  } catch {
    // The link stays: it can be pressed again.
  } finally {
    link.textContent = "Older messages";
    loading = false;
  }
}

const observer = new IntersectionObserver(([entry]) => {
  if (entry.isIntersecting) loadOlder(entry.target);
}, { root: viewport, rootMargin: "200px 0px 0px 0px" });

// --- editing and deleting

timeline.list.addEventListener("click", (event) => {
  const button = event.target.closest("[data-action]");
  if (!button) return;
  const item = button.closest(".message");
  if (button.dataset.action === "edit") startEdit(item);
  else if (confirm("Delete this message?")) socket.send("delete", { id: Number(item.dataset.id) });
});

function startEdit(item) {
  const main = item.querySelector(".message-main");
  if (main.querySelector(".edit-form")) return;
  const text = main.querySelector(".text");
  const field = element("textarea", { value: text?.textContent ?? "", rows: 2, "aria-label": "Edit message" });
  const save = element("button", { className: "button", textContent: "Save" });
  const cancel = element("button", { type: "button", className: "button quiet", textContent: "Cancel" });
  const actions = element("div", { className: "edit-actions" }, save, cancel);
  const edit = element("form", { className: "edit-form" }, field, actions);
  const stop = () => { edit.remove(); if (text) text.hidden = false; };
  cancel.addEventListener("click", stop);
  field.addEventListener("keydown", (event) => {
    if (event.key === "Escape") stop();
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) { event.preventDefault(); edit.requestSubmit(); }
  });
  edit.addEventListener("submit", (event) => {
    event.preventDefault();
    if (socket.send("edit", { id: Number(item.dataset.id), text: field.value })) stop();
  });
  if (text) text.hidden = true;
  main.querySelector(".message-head").after(edit);
  field.focus();
}

// --- people and typing

function showPeople({ people, guests }) {
  const list = document.getElementById("present");
  list.replaceChildren(...people.map(({ id, name }) =>
    element("li", { "data-user": id }, avatar(id, name), element("span", { textContent: name }))));
  document.getElementById("people-count").textContent = people.length;
  const line = document.getElementById("guests");
  line.hidden = !guests;
  line.textContent = `and ${guests} guest${guests === 1 ? "" : "s"}`;
}

// Whoever is here or has spoken: name -> id.
function knownPeople() {
  const known = new Map();
  for (const node of document.querySelectorAll("#present li")) known.set(node.lastElementChild.textContent, Number(node.dataset.user));
  for (const { dataset } of timeline.items()) known.set(dataset.name, Number(dataset.author));
  known.delete(document.body.dataset.name);
  return known;
}

const typists = new Map();
function showTyping({ user, name }) {
  if (String(user) === me) return;
  clearTimeout(typists.get(user)?.timer);
  typists.set(user, { name, timer: setTimeout(() => stopTyping(user), TYPING_SHOWN_MS) });
  renderTyping();
}

function stopTyping(user) {
  clearTimeout(typists.get(user)?.timer);
  if (typists.delete(user)) renderTyping();
}

function renderTyping() {
  const names = [...typists.values()].map(({ name }) => name);
  let text = "";
  if (names.length === 1) text = `${names[0]} is typing…`;
  else if (names.length === 2) text = `${names[0]} and ${names[1]} are typing…`;
  else if (names.length) text = "Several people are typing…";
  document.getElementById("typing").textContent = text;
}

const peopleButton = document.getElementById("people-button");
peopleButton.addEventListener("click", () => {
  const open = document.getElementById("people").classList.toggle("open");
  peopleButton.setAttribute("aria-expanded", String(open));
});

function endComposer() {
  for (const control of form?.querySelectorAll("textarea, button, input") ?? []) control.disabled = true;
}

// --- start

if (room.readPosition) timeline.markUnread(Number(room.readPosition));
const target = location.hash.startsWith("#message-") && document.getElementById(location.hash.slice(1));
if (target) target.scrollIntoView({ block: "center" });
else timeline.scrollToBottom();
const older = document.getElementById("older");
if (older) {
  older.addEventListener("click", (event) => { event.preventDefault(); loadOlder(older); });
  observer.observe(older);
}
// A picture that loads late must not push the newest message out of view.
timeline.list.addEventListener("load", () => { if (followsBottom) timeline.scrollToBottom(); }, true);
let followsBottom = !target;
viewport.addEventListener("scroll", () => { followsBottom = timeline.isAtBottom(); });
socket.open();
