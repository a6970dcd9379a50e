// Tooltips with the nearest measured value; a run lit in every figure, by pointing, or alone, by a click, its button or
// its row; columns that sort; figures that grow. The page is complete without this.
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
  let pinned = null;
  const pin = (key) => {
    pinned = pinned === key ? null : key;
    document.querySelectorAll(".chip").forEach((chip) => chip.setAttribute("aria-pressed", String(chip.dataset.run === pinned)));
    light(null);
  };
  const light = (wanted) => {
    const key = wanted ?? pinned;
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
    plot.addEventListener("click", () => pin(lit ?? pinned));
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
  // what a page without its script does not promise
  document.querySelectorAll("[data-scripted]").forEach((told) => (told.textContent = told.dataset.scripted));
  document.querySelectorAll(".chip").forEach((chip) => {
    chip.addEventListener("click", () => pin(chip.dataset.run));
    chip.addEventListener("focus", () => light(chip.dataset.run));
    chip.addEventListener("blur", () => light(null));
  });
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && pinned !== null) pin(pinned);
  });
  document.querySelectorAll(".grid figure h3").forEach((head) => {
    const button = Object.assign(document.createElement("button"), { type: "button", className: "bigger", textContent: "larger" });
    button.setAttribute("aria-pressed", "false");
    button.addEventListener("click", () => {
      const big = head.parentElement.classList.toggle("big");
      button.textContent = big ? "smaller" : "larger";
      button.setAttribute("aria-pressed", String(big));
    });
    head.before(button);
  });
  const worth = (row, at) => {
    const text = row.cells[at].textContent.trim().replace(/(\d)\s(?=\d{3}(?!\d))/g, "$1"); // 13 090 is 13090
    const value = parseFloat(text.replace(/^[^0-9.+-]*/, ""));
    return Number.isNaN(value) ? text : value;
  };
  document.querySelectorAll("table.sorts").forEach((table) => {
    const heads = [...table.tHead.rows[0].cells];
    heads.forEach((head, at) => {
      const button = Object.assign(document.createElement("button"), { type: "button", textContent: head.textContent });
      head.replaceChildren(button);
      button.addEventListener("click", () => {
        const down = head.getAttribute("aria-sort") === "ascending";
        heads.forEach((other) => other.removeAttribute("aria-sort"));
        head.setAttribute("aria-sort", down ? "descending" : "ascending");
        const rows = [...table.tBodies[0].rows];
        rows.sort((a, b) => {
          const [x, y] = [worth(a, at), worth(b, at)];
          if (typeof x !== typeof y) return typeof x === "number" ? -1 : 1; // what was not measured comes last
          const order = typeof x === "number" ? x - y : x.localeCompare(y);
          return down ? -order : order;
        });
        table.tBodies[0].append(...rows);
      });
    });
  });
  document.querySelectorAll("tr[data-run]").forEach((row) => {
    row.addEventListener("mouseenter", () => light(row.dataset.run));
    row.addEventListener("mouseleave", () => light(null));
  });
})();
