/** When a scrolled grid has come to rest: only then do its cells ask for their images. */

/** Milliseconds without a scroll event. Without this wait a fling through 10,000 images asks for 6,500 of them. */
export const REST = 80;

export class Settle {
  private moving = false;
  private timer: ReturnType<typeof setTimeout> | undefined;
  private readonly listeners = new Set<() => void>();

  readonly subscribe = (listener: () => void): (() => void) => {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  };

  readonly atRest = (): boolean => !this.moving;

  readonly moved = (): void => {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.set(false), REST);
    this.set(true);
  };

  private set(moving: boolean): void {
    if (this.moving === moving) return;
    this.moving = moving;
    for (const listener of this.listeners) listener();
  }
}
