// A part of a figure, larger: drag a rectangle over it, or press + - arrows 0 while it has the focus. The page is
// complete without this.
(() => {
  const least = 1 / 40; // of the whole drawing
  const value = ([, scale, low, high], share) => {
    const part = Math.min(1, Math.max(0, share));
    const found = scale === "log" ? low * Math.pow(high / low, part) : low + (high - low) * part;
    return String(+found.toPrecision(3));
  };
  document.querySelectorAll(".plot").forEach((plot) => {
    const svg = plot.querySelector("svg");
    const seen = svg.viewBox.baseVal;
    const whole = [seen.x, seen.y, seen.width, seen.height];
    const axes = JSON.parse(plot.dataset.axes);
    const said = Object.assign(document.createElement("p"), { className: "zoom", hidden: true });
    said.setAttribute("role", "status");
    plot.after(said);
    plot.tabIndex = 0;
    plot.setAttribute("aria-label", "figure: + and - zoom, arrows move, 0 shows all of it");
    svg.style.aspectRatio = `${whole[2]} / ${whole[3]}`;
    let now = whole;

    const words = () => {
      const middle = [now[0] + now[2] / 2, now[1] + now[3] / 2];
      const inside = ({ box: [a, b, c, d] }) => (middle[0] - a) * (middle[0] - b) <= 0 && (middle[1] - c) * (middle[1] - d) <= 0;
      const found = axes.find(inside);
      if (!found) return "";
      const { box, x, y } = found;
      const across = [now[0], now[0] + now[2]].map((at) => value(x, (at - box[0]) / (box[1] - box[0])));
      const up = [now[1] + now[3], now[1]].map((at) => value(y, (at - box[2]) / (box[3] - box[2])));
      return `${x[0]} ${across.join(" to ")}; ${y[0]} ${up.join(" to ")}. `;
    };
    const show = (x, y, width) => {
      const wide = Math.min(whole[2], Math.max(least * whole[2], width));
      const high = (wide * whole[3]) / whole[2];
      const between = (at, from, size, all) => Math.min(from + all - size, Math.max(from, at));
      now = [between(x, whole[0], wide, whole[2]), between(y, whole[1], high, whole[3]), wide, high];
      const part = wide < whole[2];
      svg.setAttribute("viewBox", now.join(" "));
      plot.classList.toggle("zoomed", part);
      said.textContent = part ? `${words()}0 or Escape shows all of it.` : "";
      said.hidden = !part;
    };
    const closer = (factor) => show(now[0] + (now[2] * (1 - factor)) / 2, now[1] + (now[3] * (1 - factor)) / 2, now[2] * factor);
    const keys = {
      "+": () => closer(0.7), "=": () => closer(0.7), "-": () => closer(1 / 0.7),
      0: () => show(whole[0], whole[1], whole[2]), Escape: () => show(whole[0], whole[1], whole[2]),
      ArrowLeft: () => show(now[0] - now[2] / 5, now[1], now[2]), ArrowRight: () => show(now[0] + now[2] / 5, now[1], now[2]),
      ArrowUp: () => show(now[0], now[1] - now[3] / 5, now[2]), ArrowDown: () => show(now[0], now[1] + now[3] / 5, now[2]),
    };
    plot.addEventListener("keydown", (event) => {
      if (event.ctrlKey || event.metaKey || event.altKey || !Object.hasOwn(keys, event.key)) return;
      if (event.key.startsWith("Arrow") && now[2] === whole[2]) return; // the page scrolls
      event.preventDefault();
      keys[event.key]();
    });

    const place = (event) => new DOMPoint(event.clientX, event.clientY).matrixTransform(svg.getScreenCTM().inverse());
    let from = null;
    let dragged = false;
    const frame = Object.assign(document.createElement("div"), { className: "frame", hidden: true });
    plot.append(frame);
    plot.addEventListener("pointerdown", (event) => {
      if (event.pointerType === "touch" || event.button !== 0) return;
      [from, dragged] = [{ at: place(event), x: event.clientX, y: event.clientY }, false];
      event.preventDefault(); // no text is selected
      plot.focus({ preventScroll: true });
    });
    addEventListener("pointermove", (event) => {
      if (from === null) return;
      const [width, height] = [Math.abs(event.clientX - from.x), Math.abs(event.clientY - from.y)];
      dragged = dragged || Math.max(width, height) > 8;
      const { left, top } = plot.getBoundingClientRect();
      frame.hidden = !dragged;
      frame.style.left = `${Math.min(event.clientX, from.x) - left + plot.scrollLeft}px`;
      frame.style.top = `${Math.min(event.clientY, from.y) - top}px`;
      frame.style.width = `${width}px`;
      frame.style.height = `${height}px`;
    });
    addEventListener("pointerup", (event) => {
      if (from === null) return;
      const [a, b] = [from.at, place(event)];
      from = null;
      frame.hidden = true;
      if (!dragged) return;
      const [width, height] = [Math.abs(a.x - b.x), Math.abs(a.y - b.y)];
      const wide = Math.max(width, (height * whole[2]) / whole[3]); // the rectangle lies within what is shown
      show((a.x + b.x - wide) / 2, (a.y + b.y - (wide * whole[3]) / whole[2]) / 2, wide);
    });
    plot.addEventListener("click", (event) => {
      if (dragged) event.stopImmediatePropagation(); // a drag chooses no run
      dragged = false;
    }, true);
  });
})();
