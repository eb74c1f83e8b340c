// One slot judges a file; two slots beside each other compare two. Nothing is stored, and the key is forgotten on reload.
const main = document.querySelector("main");
const maxBytes = Number(main.dataset.maxBytes);
const dialog = document.querySelector("dialog");
const [first, second] = [makeSlot(), makeSlot()];
let key = null;

function makeSlot() {
  const root = document.querySelector("#slot").content.firstElementChild.cloneNode(true);
  const part = (name) => root.querySelector(name);
  const slot = { root, part, request: null, answer: null };
  main.querySelector(".slots").append(root);
  const input = part("input[type=file]");
  input.addEventListener("change", () => {
    take(slot, [...input.files]);
    input.value = "";
  });
  part(".drop").addEventListener("dragover", () => part(".drop").classList.add("over"));
  part(".drop").addEventListener("dragleave", () => part(".drop").classList.remove("over"));
  for (const button of root.querySelectorAll("[data-example]")) {
    button.addEventListener("click", () => takeExample(slot, button.dataset.example));
  }
  part(".cancel").addEventListener("click", () => {
    slot.request?.abort();
    show(slot, "give", "Cancelled.");
    input.focus();
  });
  part(".again").addEventListener("click", () => {
    show(slot, "give");
    input.focus();
  });
  return slot;
}

// state: "give" a file, "work" on it, or "result"; news is read out by a screen reader.
function show(slot, state, news = "") {
  for (const name of ["give", "work", "result"]) slot.part(`.${name}`).hidden = name !== state;
  slot.part(".error").hidden = true;
  slot.part("[role=status]").textContent = news;
  if (state !== "result") forget(slot);
  compare();
}

function forget(slot) {
  slot.answer = null;
  slot.part("iframe").removeAttribute("srcdoc");
  for (const link of slot.root.querySelectorAll("a[href]")) {
    URL.revokeObjectURL(link.href);
    link.removeAttribute("href");
  }
}

function fail(slot, message) {
  show(slot, "give");
  slot.part(".error").textContent = message;
  slot.part(".error").hidden = false;
}

function take(slot, files) {
  if (files.length === 0) return;
  if (files.length > 2) return fail(slot, "Give one file, or two to compare.");
  if (files.length === 1) return judge(slot, files[0]);
  setMode("two");
  judge(first, files[0]);
  judge(second, files[1]);
}

async function takeExample(slot, name) {
  show(slot, "work", "Making the example.");
  slot.part(".work .name").textContent = name;
  work(slot, "Making the example");
  const request = (slot.request = new AbortController());
  const response = await fetch(`examples/${name}`, { signal: request.signal }).catch(() => null);
  const content = response?.ok ? await response.blob().catch(() => null) : null;
  if (request.signal.aborted) return;
  if (content) judge(slot, new File([content], name));
  else fail(slot, `${name}: the example could not be made.`);
}

function work(slot, text, done, total) {
  slot.part(".doing").textContent = text;
  const bar = slot.part("progress");
  if (total > 0) {
    bar.max = total;
    bar.value = Math.min(done, total);
  } else bar.removeAttribute("value");
}

function judge(slot, file) {
  slot.request?.abort();
  if (file.size > maxBytes) return fail(slot, `${file.name}: over this server's limit on the size of a file.`);
  show(slot, "work", `Judging ${file.name}.`);
  slot.part(".work .name").textContent = file.name;
  work(slot, "Sending");
  if (!slot.root.contains(document.activeElement)) slot.part(".cancel").focus();

  const request = new XMLHttpRequest(); // fetch cannot tell how much of a file has been sent
  slot.request = request;
  let read = 0;
  let began = 0;
  const used = key;
  const thorough = document.querySelector("[name=thorough]")?.checked ?? false;
  request.open("POST", `judge?name=${encodeURIComponent(file.name)}&thorough=${thorough}`);
  if (used) request.setRequestHeader("Authorization", `Bearer ${used}`);
  request.upload.onprogress = ({ loaded, total }) => work(slot, `Sending, ${Math.floor((100 * loaded) / total)} %`, loaded, total);
  request.upload.onload = () => work(slot, "Judging");
  request.onprogress = () => {
    if (request.status !== 200) return;
    for (let end; (end = request.responseText.indexOf("\n", read)) >= 0; read = end + 1) {
      const message = JSON.parse(request.responseText.slice(read, end));
      if (message.progress) {
        began ||= performance.now();
        work(slot, ...pace(message.progress, performance.now() - began));
      } else if (message.error) fail(slot, message.error);
      else finish(slot, message);
    }
  };
  request.onload = () => {
    if (request.status === 401) askKey(slot, file, used);
    else if (request.status !== 200) fail(slot, `${file.name}: ${reason(request)}`);
    else if (!slot.part(".work").hidden) fail(slot, `${file.name}: the server stopped before the verdict.`);
  };
  request.onerror = () => fail(slot, `${file.name}: the connection to the server broke.`);
  request.send(file);
}

// done, total in seconds of video; spent in milliseconds.
function pace([done, total], spent) {
  if (!(done > 0)) return ["Judging"];
  if (!(total > 0)) return [`${Math.floor(done)} s of video judged`];
  const left = Math.ceil((spent / 1000) * (total / done - 1));
  return [`${Math.floor(done)} s of ${Math.ceil(total)} s of video judged, about ${clock(left)} left`, done, total];
}

function clock(seconds) {
  return seconds < 100 ? `${seconds} s` : `${Math.round(seconds / 60)} min`;
}

function reason(request) {
  try {
    const { detail } = JSON.parse(request.responseText);
    if (typeof detail === "string") return detail;
  } catch { /* not from the page's own server: the status must do */ }
  return `the server answered with status ${request.status}.`;
}

function finish(slot, answer) {
  show(slot, "result", `Verdict on ${answer.name}: ${answer.verdict}. ${answer.sentence}`);
  slot.answer = answer;
  slot.part(".result .name").textContent = answer.name;
  const stem = answer.name.replace(/\.[^.]*$/, "") || "report";
  for (const [kind, type] of [["html", "text/html"], ["json", "application/json"]]) {
    const link = slot.part(`a.${kind}`);
    link.href = URL.createObjectURL(new Blob([answer[kind]], { type }));
    link.download = `${stem}-forgerank.${kind}`;
  }
  slot.part("iframe").title = `Report on ${answer.name}`;
  slot.part("iframe").srcdoc = answer.html.replace("</body>", () => `${main.dataset.embedding}</body>`);
  slot.part(".result .name").focus({ preventScroll: true });
  compare();
}

function compare() {
  const answers = [first.answer, second.answer];
  const table = main.querySelector(".comparison");
  table.hidden = main.querySelector(".slots.two") === null || !answers.every(Boolean);
  if (table.hidden) return;
  const row = (tag, texts, attributes) => {
    const made = document.createElement("tr");
    for (const textContent of texts) made.append(Object.assign(document.createElement(tag), { textContent, ...attributes }));
    return made;
  };
  const topic = (name, tell) => {
    const body = document.createElement("tbody");
    body.append(row("th", [name], { colSpan: 2, scope: "rowgroup" }), row("td", answers.map(tell)));
    return body;
  };
  const head = document.createElement("thead");
  head.append(row("th", answers.map(({ name }) => name), { scope: "col" }));
  const count = Math.max(...answers.map(({ faces }) => faces.length));
  table.querySelector("table").replaceChildren(
    head,
    topic("Verdict", ({ verdict, sentence }) => `${verdict}. ${sentence}`),
    ...Array.from({ length: count }, (_, i) => topic(`Face ${i + 1}`, ({ faces }) => describe(faces[i]))),
  );
}

function describe(face) {
  if (!face) return "—";
  const order = face.components.length ? `; first to last: ${face.components.join(", ")}` : "";
  return `${face.verdict}, probability of forgery ${face.probability}${order}`;
}

// used: the key that was refused. Both slots may ask; one dialog answers both.
function askKey(slot, file, used) {
  if (key !== used) return judge(slot, file);
  show(slot, "give");
  const retry = () => {
    if (dialog.returnValue !== "ok") return fail(slot, `${file.name}: not judged without a key.`);
    key = dialog.querySelector("input").value;
    judge(slot, file);
  };
  dialog.addEventListener("close", retry, { once: true });
  if (dialog.open) return;
  dialog.querySelector("form").reset();
  dialog.returnValue = "";
  dialog.showModal();
}

function setMode(mode) {
  document.querySelector(`[name=mode][value=${mode}]`).checked = true;
  main.querySelector(".slots").classList.toggle("two", mode === "two");
  second.root.hidden = mode !== "two";
  first.root.ariaLabel = mode === "two" ? "First file" : "File";
  second.root.ariaLabel = "Second file";
  compare();
}

// Where a dropped or pasted file goes: the slot under it, else the first free one.
function target(element) {
  const under = [first, second].find(({ root }) => root.contains(element));
  return under ?? [first, second].find(({ root, part }) => !root.hidden && !part(".give").hidden) ?? first;
}

document.addEventListener("dragover", (event) => event.preventDefault());
document.addEventListener("drop", (event) => {
  event.preventDefault();
  for (const zone of document.querySelectorAll(".drop")) zone.classList.remove("over");
  take(target(event.target), [...event.dataTransfer.files]);
});
document.addEventListener("paste", (event) => {
  const files = [...event.clipboardData.files];
  if (files.length) take(target(null), files);
});
// A report's frame has no origin: it is known by its window, and only its height is listened to.
window.addEventListener("message", ({ source, data }) => {
  for (const { part } of [first, second]) {
    const frame = part("iframe");
    if (source === frame.contentWindow && data.height > 0) frame.style.height = `${Math.min(Math.ceil(data.height), 60000)}px`;
  }
});
for (const input of document.querySelectorAll("[name=mode]")) input.addEventListener("change", () => setMode(input.value));
setMode("one");
// Where somebody comes back to the page, the browser sets the choice again, after this script and without a change.
window.addEventListener("pageshow", () => setMode(document.querySelector("[name=mode]:checked").value));
