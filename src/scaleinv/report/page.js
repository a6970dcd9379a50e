// Tooltips with the nearest measured value, and the same run lit in every figure. The page is complete without this.
(() => {
  const tip = document.createElement("div");
  tip.id = "tip";
  document.body.append(tip);
  const runOf = (gid) => gid.split(".")[1];
  const show = (v) => {
    const size = Math.abs(v);
    if (v === 0) return "0";
    return size >= 1e-3 && size < 1e5 ? String(+v.toPrecision(4)) : v.toExponential(2).replace("e+", "e");
  };
  const light = (key) => {
    document.querySelectorAll(".on").forEach((e) => e.classList.remove("on"));
    document.querySelectorAll(".plot").forEach((plot) => {
      const own = key === null ? [] : [...plot.querySelectorAll("[data-gid]")].filter((g) => runOf(g.dataset.gid) === key);
      own.forEach((g) => g.classList.add("on"));
      plot.classList.toggle("lit", own.length > 0);
    });
    if (key !== null) document.querySelector(`tr[data-run="${key}"]`)?.classList.add("on");
  };
  const back = ([name, scale, low, high], share) =>
    scale === "log" ? low * Math.pow(high / low, share) : low + (high - low) * share;

  // the vertices of every curve and the places of every mark, in the units of the drawing
  const read = (plot) => {
    const points = [];
    plot.querySelectorAll("[data-gid]").forEach((g) => {
      const place = +g.dataset.gid.slice(1).split(".")[0];
      const title = g.querySelector("title");
      const entry = { g, place, key: runOf(g.dataset.gid), title: title ? title.textContent : "" };
      const uses = g.querySelectorAll("use");
      if (uses.length) uses.forEach((u) => points.push({ ...entry, x: +u.getAttribute("x"), y: +u.getAttribute("y") }));
      else g.querySelectorAll("path").forEach((path) => {
        const numbers = path.getAttribute("d").match(/-?\d+(\.\d+)?(e-?\d+)?/g) || [];
        for (let i = 0; i + 1 < numbers.length; i += 2) points.push({ ...entry, x: +numbers[i], y: +numbers[i + 1] });
      });
    });
    return points;
  };

  document.querySelectorAll(".plot").forEach((plot) => {
    const svg = plot.querySelector("svg");
    const axes = JSON.parse(plot.dataset.axes);
    let points = null;
    let lit = null;
    const leave = () => {
      tip.style.display = "none";
      if (lit !== null) light(null);
      lit = null;
    };
    plot.addEventListener("mouseleave", leave);
    plot.addEventListener("mousemove", (event) => {
      points ??= read(plot);
      plot.querySelectorAll("title").forEach((title) => title.remove()); // the browser's own tooltip would come on top
      const matrix = svg.getScreenCTM();
      const at = new DOMPoint(event.clientX, event.clientY).matrixTransform(matrix.inverse());
      let best = null;
      let least = 22 * 22;
      for (const point of points) {
        const distance = (point.x - at.x) ** 2 + (point.y - at.y) ** 2;
        if (distance < least) [best, least] = [point, distance];
      }
      if (best === null) return leave();
      const { box, x, y } = axes[best.place];
      const [head, ...rest] = best.title.split(": ");
      tip.replaceChildren();
      const line = (tag, text) => tip.append(Object.assign(document.createElement(tag), { textContent: text }));
      line("b", head);
      line("div", `${x[0]} ${show(back(x, (best.x - box[0]) / (box[1] - box[0])))}`);
      line("div", `${y[0]} ${show(back(y, (best.y - box[2]) / (box[3] - box[2])))}`);
      if (rest.length) line("div", rest.join(": ").split("; ")[0]);
      tip.style.display = "block";
      const left = Math.min(event.clientX + 14, innerWidth - tip.offsetWidth - 8);
      tip.style.left = `${Math.max(4, left)}px`;
      tip.style.top = `${Math.max(4, event.clientY - tip.offsetHeight - 12)}px`;
      if (lit !== best.key) light((lit = best.key));
    });
  });
  document.querySelectorAll("tr[data-run]").forEach((row) => {
    row.addEventListener("mouseenter", () => light(row.dataset.run));
    row.addEventListener("mouseleave", () => light(null));
  });
})();
