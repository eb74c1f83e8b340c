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
