// Traces leave and enter the page as files: download, file picker, drag and drop.

import { byId } from "./dom.js";
import { readTrace, writeTrace } from "./tracefile.js";

export function download(events, name) {
  const url = URL.createObjectURL(new Blob([writeTrace(events)], { type: "application/jsonl" }));
  const link = document.createElement("a");
  Object.assign(link, { href: url, download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 1000);
}

// `onOpen(events)` gets the events of a file that was picked or dropped, `onFail(message)` what is wrong with it.
export function acceptFiles(onOpen, onFail) {
  const picker = byId("file");
  byId("open").addEventListener("click", () => picker.click());
  picker.addEventListener("change", () => {
    read(picker.files[0]);
    picker.value = "";
  });
  for (const kind of ["dragover", "dragleave", "drop"]) {
    document.addEventListener(kind, (event) => {
      event.preventDefault();
      document.body.classList.toggle("dropping", kind === "dragover");
    });
  }
  document.addEventListener("drop", (event) => read(event.dataTransfer.files[0]));

  async function read(file) {
    if (!file) return;
    try {
      onOpen(readTrace(await file.text()));
    } catch (error) {
      onFail(`${file.name} cannot be shown. ${error.message}`);
    }
  }
}
