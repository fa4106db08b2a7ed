// The keys of the desk, and forms that survive a server that goes away. Without this script, everything but the keys works.
"use strict";
(() => {
  const $ = (selector) => document.querySelector(selector);
  const item = $("#item");
  const trouble = $("#trouble");
  let sending = false;

  const say = (text) => {
    if (!trouble) return;
    trouble.textContent = text;
    trouble.hidden = !text;
  };
  const stored = (store, name, value) => {
    try {
      return value === undefined ? store.getItem(name) : store.setItem(name, value);
    } catch { return null; } // a browser may forbid it
  };

  // Keys. None while somebody types, and none with a modifier: those belong to the browser.
  const keysOn = () => stored(localStorage, "keys") !== "off";
  const typing = (target) =>
    target.matches("textarea, select, [contenteditable], input:not([type=checkbox])") || $("dialog[open]");
  const reveal = (on) => $("#picture")?.classList.toggle("shown", on);

  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && event.target.matches("textarea, input, select")) return event.target.blur();
    if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing) return;
    if ((event.shiftKey && event.key !== "?") || typing(event.target) || !keysOn()) return;
    if (event.key === "b") return event.repeat ? undefined : reveal(true);
    if (event.key === "Enter" && event.target.matches("a, button, summary, input")) return;
    const reason = /^[1-9]$/.test(event.key) && $(`option[data-number="${event.key}"]`);
    const found = reason || $(`[data-key="${CSS.escape(event.key)}"]`);
    if (!found || found.disabled) return;
    event.preventDefault();
    if (event.repeat || sending) return; // a key that is held decides once
    if (reason) {
      reason.selected = !reason.selected || reason.value === "";
      reason.parentElement.dispatchEvent(new Event("input", { bubbles: true }));
    } else if (found.matches("textarea")) found.focus();
    else found.click();
  });
  document.addEventListener("keyup", (event) => event.key === "b" && reveal(false));
  window.addEventListener("blur", () => reveal(false));

  for (const button of document.querySelectorAll("[data-opens]")) {
    button.hidden = false;
    button.addEventListener("click", () => $(`#${button.dataset.opens}`).showModal());
  }
  const toggle = $("#keys-on");
  if (toggle) {
    toggle.checked = keysOn();
    toggle.addEventListener("change", () => stored(localStorage, "keys", toggle.checked ? "on" : "off"));
  }
  const grey = $("#grey");
  if (grey) {
    grey.checked = stored(localStorage, "grey") === "on";
    grey.addEventListener("change", () => stored(localStorage, "grey", grey.checked ? "on" : "off"));
  }

  // What is typed stays when the page is loaded again.
  const form = $("#decide");
  const draft = item && `draft:${item.dataset.sha}`;
  if (form) {
    const fields = () => ["note", "reason_code"].filter((name) => form.elements[name]);
    const kept = JSON.parse(stored(sessionStorage, draft) || "{}");
    for (const name of fields()) form.elements[name].value ||= kept[name] || "";
    form.addEventListener("input", () =>
      stored(sessionStorage, draft, JSON.stringify(Object.fromEntries(fields().map((name) => [name, form.elements[name].value])))));
  }

  // Sends a form until the server has answered. Sending it twice is deciding once.
  const send = async (address, body, decides, wait = 1) => {
    const again = (why) => {
      say(`${why} Nothing is lost: it is sent again in ${wait} s.`);
      setTimeout(() => send(address, body, decides, Math.min(wait * 2, 30)), wait * 1000);
    };
    let answer;
    try {
      answer = await fetch(address, { method: "POST", body, headers: { Accept: "application/json" } });
    } catch {
      return again("The server does not answer.");
    }
    if (answer.status >= 500) return again("The server cannot store this now.");
    const told = await answer.json().catch(() => ({}));
    if (answer.ok && told.next) {
      if (decides) stored(sessionStorage, draft, "{}"); // until then, what was typed is kept
      if (told.draft) stored(sessionStorage, `draft:${told.draft.sha256}`, JSON.stringify(told.draft));
      return location.assign(told.next);
    }
    sending = false;
    say(told.why || "This did not work. Load the page again.");
    if (told.lost) lose();
  };
  document.addEventListener("submit", (event) => {
    if (!event.target.matches("[data-send]")) return;
    event.preventDefault();
    if (sending) return;
    sending = true;
    const elsewhere = event.submitter?.getAttribute("formaction");
    const address = elsewhere || event.target.getAttribute("action");
    send(address, new FormData(event.target, event.submitter), event.target === form && !elsewhere);
  });

  // The claim lasts while this page is open, and others see that it is open.
  const lose = () => {
    delete item.dataset.claim;
    for (const button of document.querySelectorAll("#decide button, [data-key=s]")) button.disabled = true;
  };
  const beat = async () => {
    if (sending) return;
    const { sha, claim, csrf } = item.dataset;
    const body = new URLSearchParams(claim ? { claim, csrf } : { csrf });
    try {
      const address = `/items/${sha}/${claim ? "keep" : "look"}`;
      const answer = await fetch(address, { method: "POST", body, headers: { Accept: "application/json" } });
      const told = await answer.json();
      if (sending) return; // the decision has ended the claim, so the claim is not lost
      if (told.others !== undefined) {
        $("#others").textContent = told.others;
        $("#others").hidden = !told.others;
      }
      if (told.lost) {
        say(told.why);
        lose();
      } else if (told.until) {
        $("#until").textContent = told.until;
        if (!sending) say("");
      }
    } catch {
      if (claim && !sending) say("The server does not answer. What you have typed stays here.");
    }
  };
  if (item) setInterval(beat, item.dataset.every * 1000);
  document.body.dataset.keys = "ready";
})();
