/**
 * Images under one zoom. All layers lie on the same pixels, and panes that share a zoom show the
 * same part: what changes between two images is then the image, never its position.
 */

import {
  type KeyboardEvent,
  type PointerEvent,
  type ReactNode,
  useEffect,
  useLayoutEffect,
  useRef,
  useState,
} from "react";
import { nextStep, panned, placed, type Size, type Zoom, zoomedAt } from "./zoom";

export interface Layer {
  readonly src: string;
  readonly alt: string;
  readonly width: number;
  readonly height: number;
  readonly hidden?: boolean;
  /** Show the layer only right of this share of the pane. */
  readonly from?: number;
  /** Show the difference to the layers below. */
  readonly difference?: boolean;
}

interface ZoomPaneProps {
  readonly layers: readonly Layer[];
  readonly zoom: Zoom;
  readonly setZoom: (zoom: Zoom) => void;
  readonly label: string;
  /** What lies on the images, e.g. the handle of a slider. */
  readonly children?: ReactNode;
  readonly className?: string;
}

const WHEEL = 0.0015;
const PAN_STEP = 40;

export function ZoomPane(props: ZoomPaneProps) {
  const { layers, zoom, setZoom, label, children, className = "" } = props;
  const frame = useRef<HTMLDivElement>(null);
  const [pane, setPane] = useState<Size>({ width: 0, height: 0 });
  const dragged = useRef<{ readonly x: number; readonly y: number } | null>(null);
  const first = layers[0];
  const image: Size = { width: first?.width ?? 1, height: first?.height ?? 1 };
  const now = useRef({ zoom, setZoom, image, pane });
  now.current = { zoom, setZoom, image, pane };

  useLayoutEffect(() => {
    const element = frame.current;
    if (!element) return;
    const measure = () => setPane({ width: element.clientWidth, height: element.clientHeight });
    measure();
    const observer = new ResizeObserver(measure);
    observer.observe(element);
    return () => observer.disconnect();
  }, []);

  // React listens to the wheel passively, and cannot keep the page from scrolling.
  useEffect(() => {
    const element = frame.current;
    if (!element) return;
    const onWheel = (event: WheelEvent) => {
      event.preventDefault();
      const { zoom: current, setZoom: set, image: size, pane: area } = now.current;
      const box = element.getBoundingClientRect();
      const pointer = { x: event.clientX - box.left, y: event.clientY - box.top };
      const factor = Math.exp(-event.deltaY * WHEEL);
      set(zoomedAt(current, factor, pointer, size, area, devicePixelRatio));
    };
    element.addEventListener("wheel", onWheel, { passive: false });
    return () => element.removeEventListener("wheel", onWheel);
  }, []);

  const onPointerDown = (event: PointerEvent) => {
    if (event.button !== 0) return;
    dragged.current = { x: event.clientX, y: event.clientY };
    event.currentTarget.setPointerCapture(event.pointerId);
  };
  const onPointerMove = (event: PointerEvent) => {
    const from = dragged.current;
    if (!from) return;
    dragged.current = { x: event.clientX, y: event.clientY };
    const [dx, dy] = [event.clientX - from.x, event.clientY - from.y];
    setZoom(panned(zoom, dx, dy, image, pane, devicePixelRatio));
  };
  const onPointerUp = () => {
    dragged.current = null;
  };
  const pan = (event: KeyboardEvent): boolean => {
    const steps: Readonly<Record<string, readonly [number, number]>> = {
      ArrowLeft: [PAN_STEP, 0],
      ArrowRight: [-PAN_STEP, 0],
      ArrowUp: [0, PAN_STEP],
      ArrowDown: [0, -PAN_STEP],
    };
    const by = event.altKey ? steps[event.key] : undefined;
    if (by) setZoom(panned(zoom, by[0], by[1], image, pane, devicePixelRatio));
    return by !== undefined;
  };
  const onKeyDown = (event: KeyboardEvent) => {
    const middle = { x: pane.width / 2, y: pane.height / 2 };
    const factor = event.key === "+" || event.key === "=" ? 1.25 : event.key === "-" ? 0.8 : 0;
    if (factor) setZoom(zoomedAt(zoom, factor, middle, image, pane, devicePixelRatio));
    else if (event.key === "z") setZoom(nextStep(zoom));
    else if (!pan(event)) return;
    event.preventDefault();
    event.stopPropagation();
  };

  return (
    <div
      ref={frame}
      className={`zoom-pane ${className}`}
      role="group"
      aria-label={label}
      tabIndex={0}
      onPointerDown={onPointerDown}
      onPointerMove={onPointerMove}
      onPointerUp={onPointerUp}
      onPointerCancel={onPointerUp}
      onDoubleClick={() => setZoom(nextStep(zoom))}
      onKeyDown={onKeyDown}
    >
      {layers.map((layer, n) => (
        <LayerImage key={n} layer={layer} zoom={zoom} pane={pane} />
      ))}
      {children}
    </div>
  );
}

interface LayerImageProps {
  readonly layer: Layer;
  readonly zoom: Zoom;
  readonly pane: Size;
}

function LayerImage({ layer, zoom, pane }: LayerImageProps) {
  const { left, top, scale } = placed(zoom, layer, pane, devicePixelRatio);
  const clip = layer.from === undefined ? "" : `inset(0 0 0 ${layer.from * 100}%)`;
  const sharp = scale * devicePixelRatio >= 2 && zoom.scale !== null;
  return (
    <div
      className={layer.difference ? "zoom-layer difference" : "zoom-layer"}
      hidden={layer.hidden ?? false}
      style={{ clipPath: clip }}
    >
      {pane.width > 0 ? (
        <img
          src={layer.src}
          alt={layer.alt}
          className={sharp ? "sharp" : ""}
          draggable={false}
          decoding="sync"
          style={{
            left,
            top,
            width: layer.width * scale,
            height: layer.height * scale,
          }}
        />
      ) : null}
    </div>
  );
}
