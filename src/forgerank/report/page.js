for (const section of document.querySelectorAll("section.picture")) {
  section.addEventListener("input", ({ target }) => {
    if (target.type === "range") section.style.setProperty("--heat", target.value);
    if (target.type === "radio") {
      for (const layer of section.querySelectorAll(".layer")) {
        layer.classList.toggle("hidden", layer.dataset.map !== target.value);
      }
    }
  });
}
