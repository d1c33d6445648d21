// Small helpers; text always goes in as text.

export function element(tag, properties = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name.includes("-")) node.setAttribute(name, value);
    else node[name] = value;
  }
  node.append(...children);
  return node;
}

const time = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit" });
const day = new Intl.DateTimeFormat(undefined, { weekday: "long", day: "numeric", month: "long" });
const full = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "short" });

export function formatTime(date) { return time.format(date); }
export function formatMoment(date) {
  return date.toDateString() === new Date().toDateString() ? time.format(date) : full.format(date);
}

export function formatDay(date) {
  const today = new Date();
  if (date.toDateString() === today.toDateString()) return "Today";
  today.setDate(today.getDate() - 1);
  if (date.toDateString() === today.toDateString()) return "Yesterday";
  return day.format(date);
}

export function csrfToken() {
  return document.querySelector("input[name=csrfmiddlewaretoken]")?.value ?? "";
}

export function avatar(id, name) {
  const initial = name.slice(0, 1).toUpperCase();
  return element("span", { className: `avatar small colour-${id % 10}`, "aria-hidden": "true", textContent: initial });
}
