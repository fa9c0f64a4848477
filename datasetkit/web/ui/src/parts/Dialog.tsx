/** A modal dialog: Esc and a click beside it close it, then the focus returns to where it was. */

import { type ReactNode, useEffect, useRef } from "react";
import { t } from "../i18n";

interface DialogProps {
  readonly label: string;
  readonly close: () => void;
  readonly children: ReactNode;
}

export function Dialog({ label, close, children }: DialogProps) {
  const dialog = useRef<HTMLDialogElement>(null);
  useEffect(() => {
    const element = dialog.current;
    const focused = document.activeElement;
    element?.showModal();
    const first = element?.querySelector<HTMLElement>("[autofocus], .primary");
    first?.focus();
    return () => {
      element?.close();
      if (focused instanceof HTMLElement) focused.focus();
    };
  }, []);
  return (
    <dialog
      ref={dialog}
      aria-label={label}
      onCancel={(event) => {
        event.preventDefault();
        close();
      }}
      onKeyDown={(event) => event.stopPropagation()}
      onClick={(event) => event.target === dialog.current && close()}
    >
      <div className="dialog-content">{children}</div>
    </dialog>
  );
}

interface CloseProps {
  readonly close: () => void;
  /** The main button of a dialog that asks for nothing more. */
  readonly primary?: boolean;
  /** "Cancel": the dialog would do something. */
  readonly cancel?: boolean;
}

/** The button that closes a dialog, as Esc does. */
export function Close({ close, primary, cancel }: CloseProps) {
  return (
    <button type="button" className={primary ? "primary" : undefined} onClick={close}>
      {t(cancel ? "cancel" : "close")} <kbd>Esc</kbd>
    </button>
  );
}
