package pattern

// Height is the number of pixel rows at the top that the strip covers in a picture of that width.
func Height(width int) int { return edge(stripRows, width) }

// Width is the number of pixel columns at the left that the strip covers.
func Width(width int) int { return edge(stripColumns, width) }

// edge is the first pixel of cell i.
func edge(i, width int) int { return i * width / cellsAcross }

// Draw writes the strip into 4-byte pixels: pix starts at the picture's first pixel, rows are stride bytes apart. It allocates
// nothing and touches the strip's bytes only. ErrSize says that the strip does not fit.
func Draw(pix []byte, stride, width int, s Stamp) error {
	h := Height(width)
	if width < MinWidth || stride < 4*width || len(pix) < (h-1)*stride+4*width {
		return ErrSize
	}
	bits := s.Bytes()
	for row := range stripRows {
		top, bottom := edge(row, width), edge(row+1, width)
		line := pix[top*stride:]
		drawRow(line, width, row, bits)
		for y := top + 1; y < bottom; y++ {
			copy(pix[y*stride:], line[:4*edge(stripColumns, width)])
		}
	}
	return nil
}

// drawRow writes the first pixel line of a row of cells.
func drawRow(line []byte, width, row int, bits [Size]byte) {
	for column := range stripColumns {
		fill(line[4*edge(column, width):4*edge(column+1, width)], shade(row, column, bits))
	}
}

// shade is the value of a cell's bytes.
func shade(row, column int, bits [Size]byte) byte {
	row, column = row-quiet, column-quiet
	if row < 0 || row >= rows || column < 0 || column >= columns {
		return 0
	}
	n := row*columns + column
	if bits[n/8]>>(7-n%8)&1 == 1 {
		return 0xFF
	}
	return 0
}

func fill(b []byte, v byte) {
	for i := range b {
		b[i] = v
	}
}
