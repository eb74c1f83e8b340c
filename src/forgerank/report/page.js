for (const group of document.querySelectorAll(".maps")) {
  group.addEventListener("input", ({ target }) => {
    if (target.type === "range") group.style.setProperty("--heat", target.value);
    if (target.type === "radio") {
      for (const layer of group.querySelectorAll(".layer")) {
        layer.classList.toggle("hidden", layer.dataset.map !== target.value);
      }
    }
  });
}

// A pointer over the plot or the slider under it reads the nearest moment.
for (const plot of document.querySelectorAll(".timeline")) {
  const targets = [...plot.querySelectorAll(".target")];
  const [slider, cursor, output] = ["input", ".cursor", "output"].map((name) => plot.querySelector(name));
  const svg = plot.querySelector("svg");
  const show = (time) => {
    const distance = (target) => Math.abs(target.dataset.time - time);
    const nearest = targets.reduce((best, target) => (distance(target) < distance(best) ? target : best));
    cursor.removeAttribute("hidden");
    cursor.setAttribute("x1", nearest.dataset.x);
    cursor.setAttribute("x2", nearest.dataset.x);
    output.textContent = nearest.textContent;
    slider.setAttribute("aria-valuetext", nearest.textContent);
  };
  slider.addEventListener("input", () => show(Number(slider.value)));
  svg.addEventListener("pointermove", ({ clientX }) => {
    const { left, width } = svg.getBoundingClientRect();
    const [start, end] = [Number(slider.min), Number(slider.max)];
    slider.value = start + ((clientX - left) / width) * (end - start);
    show(Number(slider.value));
  });
}

// Inside an iframe's srcdoc a link to a place on this page would load the page around it.
for (const link of document.querySelectorAll('a[href^="#"]')) {
  link.addEventListener("click", (event) => {
    event.preventDefault();
    document.getElementById(link.hash.slice(1)).scrollIntoView();
  });
}

// An image, enlarged beside its heatmap. The copies last as long as it is open, so that the file holds no image twice.
function enlarge(button) {
  const group = button.closest(".maps");
  const image = button.querySelector("svg");
  const choice = group.querySelector(":scope > figcaption");
  const view = document.createElement("dialog");
  view.className = "view";
  view.setAttribute("aria-label", image.getAttribute("aria-label"));
  const close = document.createElement("button");
  close.type = "button";
  close.textContent = "Close";
  close.addEventListener("click", () => view.close());
  const pair = document.createElement("div");
  pair.className = "pair";
  const picture = (label) => {
    const copy = image.cloneNode(true);
    copy.setAttribute("aria-label", label);
    pair.append(copy);
    return copy;
  };
  for (const part of picture("the image").querySelectorAll(".heat, .box")) part.remove();
  const pick = (name) => {
    const radio = choice.querySelector(`input[value="${name}"]`);
    radio.checked = true;
    radio.dispatchEvent(new Event("input", { bubbles: true }));
  };
  let none = false;
  view.append(close, pair);
  group.append(view);
  if (choice) {
    picture("the image under the heatmap");
    view.append(choice);
    none = choice.querySelector("input:checked").value === "none";
    if (none) pick("dissimilarity");
  }
  view.addEventListener("click", ({ target }) => {
    if (target === view || target === pair) view.close();
  });
  view.addEventListener("close", () => {
    if (choice) group.append(choice);
    if (none) pick("none");
    view.remove();
    button.focus();
  });
  view.showModal();
  // A page around this one may have made its frame as high as the report: the view takes what is on the screen of it,
  // and on a phone at least the height of two images.
  const least = matchMedia("(max-width: 40rem)").matches ? Math.min(innerHeight, 1.8 * innerWidth) : 0;
  new IntersectionObserver(([{ intersectionRect }], observer) => {
    const height = Math.max(intersectionRect.height, least);
    view.style.top = `${Math.min(intersectionRect.top, innerHeight - height)}px`;
    view.style.height = `${height}px`;
    observer.disconnect();
  }).observe(view);
}
for (const button of document.querySelectorAll(".enlarge")) button.addEventListener("click", () => enlarge(button));

// On paper every row is open.
let closed = [];
addEventListener("beforeprint", () => {
  closed = [...document.querySelectorAll("details:not([open])")];
  for (const row of closed) row.open = true;
});
addEventListener("afterprint", () => {
  for (const row of closed) row.open = false;
});
