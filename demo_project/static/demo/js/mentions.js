// Suggests names after an @ in the composer (the combobox pattern of ARIA).

import { avatar, element } from "./dom.js";

const MOST = 6;

export class Mentions {
  constructor(field, list, people) {
    this.field = field;
    this.list = list;
    this.people = people;
    this.selected = 0;
    field.addEventListener("input", () => this.update());
    field.addEventListener("blur", () => this.close());
    // Before the composer's own listener: Enter picks a name here.
    field.addEventListener("keydown", (event) => this.key(event), { capture: true });
    list.addEventListener("mousedown", (event) => {
      event.preventDefault();
      const option = event.target.closest("li");
      if (option) this.pick(option.dataset.name);
    });
  }

  update() {
    const before = this.field.value.slice(0, this.field.selectionStart);
    const typed = /(?:^|\s)@([a-z0-9_-]*)$/i.exec(before)?.[1].toLowerCase();
    if (typed === undefined) return this.close();
    const found = [...this.people()].filter(([name]) => name.startsWith(typed)).slice(0, MOST);
    // Nothing to suggest, or it stands there in full: then Enter sends.
    if (!found.length || found[0][0] === typed) return this.close();
    this.typed = typed;
    this.selected = 0;
    this.list.replaceChildren(...found.map(([name, id], index) => element(
      "li", { id: `suggestion-${index}`, role: "option", "data-name": name }, avatar(id, name), name)));
    this.list.hidden = false;
    this.mark();
  }

  key(event) {
    if (this.list.hidden || event.isComposing) return;
    const count = this.list.children.length;
    if (event.key === "Escape") this.close();
    else if (event.key === "ArrowDown") this.selected = (this.selected + 1) % count;
    else if (event.key === "ArrowUp") this.selected = (this.selected + count - 1) % count;
    else if (event.key === "Enter" || event.key === "Tab") this.pick(this.list.children[this.selected].dataset.name);
    else return;
    event.preventDefault();
    event.stopImmediatePropagation();
    if (!this.list.hidden) this.mark();
  }

  pick(name) {
    const end = this.field.selectionStart;
    const start = end - this.typed.length;
    this.field.setRangeText(`${name} `, start, end, "end");
    this.close();
    this.field.focus();
  }

  mark() {
    [...this.list.children].forEach((option, index) =>
      option.setAttribute("aria-selected", String(index === this.selected)));
    this.field.setAttribute("aria-activedescendant", `suggestion-${this.selected}`);
  }

  close() {
    this.list.hidden = true;
    this.field.removeAttribute("aria-activedescendant");
  }
}
