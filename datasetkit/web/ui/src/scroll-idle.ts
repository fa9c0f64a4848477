/** Whether the grid is scrolling. Its cells request their images only when it has stopped. */

/** Milliseconds without a scroll event. Without it a fling over 10,000 images requests 6,500. */
export const IDLE_AFTER = 80;

export class ScrollIdle {
  private scrolling = false;
  private timer: ReturnType<typeof setTimeout> | undefined;
  private readonly listeners = new Set<() => void>();

  readonly subscribe = (listener: () => void): (() => void) => {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  };

  readonly isIdle = (): boolean => !this.scrolling;

  /** Call at each scroll event. */
  readonly scrolled = (): void => {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.set(false), IDLE_AFTER);
    this.set(true);
  };

  private set(scrolling: boolean): void {
    if (this.scrolling === scrolling) return;
    this.scrolling = scrolling;
    for (const listener of this.listeners) listener();
  }
}
