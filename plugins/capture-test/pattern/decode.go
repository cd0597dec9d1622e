package pattern

// Decode reads the strip from 4-byte pixels of decoded video: R, G, B in the first three bytes in any order (the strip is grey), rows
// stride bytes apart. The picture may have been scaled, but not cropped.
func Decode(pix []byte, stride, width, height int) (Stamp, error) {
	if width < MinWidth || stride < 4*width || height < Height(width) || len(pix) < (height-1)*stride+4*width {
		return Stamp{}, ErrSize
	}
	var b [Size]byte
	for n := range rows * columns {
		if bright(pix, stride, width, quiet+n/columns, quiet+n%columns) {
			b[n/8] |= 1 << (7 - n%8)
		}
	}
	return Parse(b)
}

// bright averages the middle half of a cell.
func bright(pix []byte, stride, width, row, column int) bool {
	x0, x1 := middle(column, width)
	y0, y1 := middle(row, width)
	sum, n := 0, 0
	for y := y0; y < y1; y++ {
		for x := x0; x < x1; x++ {
			p := pix[y*stride+4*x:]
			sum += int(p[0]) + int(p[1]) + int(p[2])
			n += 3
		}
	}
	return sum >= 128*n
}

// middle is the pixel range of the middle half of cell i, at least one pixel.
func middle(i, width int) (from, to int) {
	from = (4*i + 1) * width / (4 * cellsAcross)
	to = (4*i + 3) * width / (4 * cellsAcross)
	return from, max(to, from+1)
}
